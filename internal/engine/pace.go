package engine

import (
	"math"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// pace is what the engine has seen of a class: how long its tasks ran of late,
// and how many have ended in the last moments. Only behind a class that is
// getting done quickly right now are tasks placed ahead. That its tasks were
// short once is not enough: the next ones may take hours, and what was handed
// over then waits behind them, past every priority.
type pace struct {
	mean    time.Duration // exponentially weighted
	samples int

	ended float64   // short tasks that have ended, each counting less the longer ago
	at    time.Time // when ended was right
}

const (
	// shortEnough is the mean run time up to which placing ahead pays: above it,
	// the round trip of a slot that became free does not matter.
	shortEnough = 100 * time.Millisecond
	// moment is how long an end counts, and so how much work may wait ahead of a
	// slot: as much as was done in the last moment.
	moment = 50 * time.Millisecond
	// aheadMost bounds it for the shortest tasks.
	aheadMost = 32
	// paceSamples is how many tasks must have been seen first.
	paceSamples = 4
)

// measure notes the run time of a task that has ended by itself.
func (e *Engine) measure(a task.Applied, ev task.Event) {
	if ev.Kind != task.EventExited {
		return
	}
	st := a.Task.Status()
	began, ended := st.StartedAt, st.EndedAt
	if n := len(st.Past); a.Task.State() == task.Pending && n > 0 {
		began, ended = st.Past[n-1].StartedAt, st.Past[n-1].EndedAt
	}
	if began == 0 {
		return
	}
	p := e.pace[a.Task.Spec.Class]
	if p == nil {
		p = &pace{}
		e.pace[a.Task.Spec.Class] = p
	}
	ran := ended.Sub(began)
	p.add(ran)
	if now := e.now(); ran <= shortEnough {
		p.ended, p.at = p.recent(now)+1, now
	}
}

// recent returns how many short tasks have ended in the last moment.
func (p *pace) recent(now time.Time) float64 {
	return p.ended * math.Exp(-float64(now.Sub(p.at))/float64(moment))
}

// add takes a run time into the mean. What is far above the mean counts as
// eight times the mean: a single slow run, on a machine that was busy for a
// moment, says little, and a class that has turned long is recognised within a
// few tasks all the same.
func (p *pace) add(d time.Duration) {
	p.samples++
	if p.samples == 1 {
		p.mean = d
		return
	}
	d = min(d, 8*max(p.mean, time.Millisecond))
	p.mean += (d - p.mean) / 8
}

// aheadPerSlot is how many tasks of the class may be placed ahead for each CPU.
func (e *Engine) aheadPerSlot(c Class) int {
	p := e.pace[c.Name]
	if !c.Short || p == nil || p.samples < paceSamples || p.mean > shortEnough {
		return 0
	}
	slots := max(1, float64(e.capacity.CPUMilli/1000))
	return min(aheadMost, int(math.Round(p.recent(e.now())/slots)))
}
