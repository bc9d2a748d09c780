package engine

import (
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// mostHeads bounds what one round looks at and places.
const mostHeads = 256

// plan asks the scheduler what starts now. again means that there may be more
// to place than was looked at.
func (e *Engine) plan(y tally) (changes []task.Change, again bool, err error) {
	s := e.snapshot(y)
	n := lookahead(s)
	if n == 0 {
		return nil, false, nil
	}
	if s.Heads, err = e.store.Heads(n); err != nil || len(s.Heads) == 0 {
		return nil, false, err
	}
	d := scheduler.Plan(s)
	for _, p := range d.Place {
		changes = append(changes, task.Change{Seq: p.Seq, Event: task.Event{
			Kind: task.EventPlaced, At: s.Now, Attempt: p.Attempt, Backend: p.Backend, Lease: p.Lease,
		}})
	}
	for _, r := range d.Refuse {
		changes = append(changes, task.Change{Seq: r.Seq, Event: task.Event{
			Kind: task.EventRefused, At: s.Now, Attempt: r.Attempt, Class: task.CouldNotStart, Text: r.Reason,
		}})
	}
	// When all that were looked at were placed, those behind them have their turn.
	return changes, len(d.Refuse) > 0 || len(d.Place) >= n, nil
}

// snapshot is all that Plan needs but the heads.
func (e *Engine) snapshot(y tally) scheduler.Snapshot {
	s := scheduler.Snapshot{
		Now:      task.At(e.now()),
		Classes:  make(map[string]scheduler.Class, len(e.classes)),
		Backends: make(map[string]scheduler.Backend, len(e.backends)),
		Capacity: e.capacity,
		Used:     y.used,
		Running:  y.running,
		Ahead:    y.ahead,
		Uneven:   y.uneven,
	}
	for n, c := range e.classes {
		s.Classes[n] = scheduler.Class{
			Name: c.Name, Parallel: c.Parallel, Backends: c.Backends, Paused: c.Paused, AheadPerSlot: e.aheadPerSlot(c),
		}
	}
	for n, r := range e.backends {
		s.Backends[n] = scheduler.Backend{Name: n, Down: r.Backend.Down(), Local: r.Local, Image: r.Image, NoImage: r.NoImage}
	}
	return s
}

// lookahead bounds how many heads of each shape are worth reading: no more can
// be placed than there are free slots, and places ahead of slots. A round that
// can place nothing reads nothing.
func lookahead(s scheduler.Snapshot) int {
	n := 0
	if free := s.Capacity.CPUMilli - s.Used.CPUMilli; free > 0 {
		n = int(free/1000) + 1 // a task may ask for less than a CPU: look once more
	}
	slots := int(s.Capacity.CPUMilli / 1000)
	for name, c := range s.Classes {
		n += max(0, c.AheadPerSlot*slots-s.Ahead[name])
	}
	for _, b := range s.Backends {
		if !b.Local {
			n = max(n, 64)
		}
	}
	return min(n, mostHeads)
}
