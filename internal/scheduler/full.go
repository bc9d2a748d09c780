package scheduler

import "github.com/dspy-agent/dspy-agent/internal/task"

// What can be told without looking at any shape: which classes cannot have another
// task started, and whether all of them are like that. A round of scheduling on a
// machine that is full, or where every class is at its limit, so costs the same
// whatever waits.

// Full says that no task can start at present: every class is shut, or what is
// free is less than the least that one of its waiting tasks needs.
func (p *Planner) Full() bool {
	if !p.looked {
		p.full, p.looked = !p.anyOpen(), true
	}
	return p.full
}

func (p *Planner) anyOpen() bool {
	if p.Least == nil {
		for name := range p.Classes {
			if p.open(name, Usage{CPUMilli: 1}) {
				return true
			}
		}
		return false
	}
	for name, least := range p.Least {
		if p.open(name, least) {
			return true
		}
	}
	return false
}

// open says that a task of the class may start that needs no more than the least.
func (p *Planner) open(name string, least Usage) bool {
	switch {
	case p.shut(name):
		return false
	case p.roomElsewhere():
		return true
	case !p.here || p.reserved != nil:
		return false
	}
	return p.fits(task.Lease{CPUMilli: least.CPUMilli, MemBytes: least.MemBytes}) ||
		!p.short && p.uneven == 0 && p.roomAhead(p.Classes[name])
}

// shut says that no task of the class can start, whatever it needs.
func (p *Planner) shut(name string) bool {
	c, ok := p.Classes[name]
	return !ok || c.Paused != nil || c.Shut != "" || p.atLimit(c)
}

func (p *Planner) atLimit(c Class) bool {
	return c.Parallel > 0 && p.running[c.Name] >= c.Parallel
}

// pauseOf is a class that is paused, to be put into words when somebody asks.
type pauseOf struct {
	class string
	pause task.Pause
}

// String says why, and how to end it.
func (p pauseOf) String() string { return p.pause.Of(p.class) }
