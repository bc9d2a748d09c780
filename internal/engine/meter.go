package engine

import (
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Meter is told how long things took. The loop calls it, after the commit that
// says so, and does not go on until it returns.
type Meter interface {
	// Waited is how long an attempt that now runs has waited for its turn.
	Waited(class string, d time.Duration)
	// Dispatched is how long it took from the placement of an attempt until it ran.
	Dispatched(d time.Duration)
	// Ran is how an attempt ended that had run, and how long it ran.
	Ran(class string, state task.State, failure task.FailureClass, d time.Duration)
}

// meterMove tells the meter what a move says about time. It is called before the
// move is taken into the table of active tasks.
func (e *Engine) meterMove(a task.Applied, ev task.Event) {
	if e.meter == nil {
		return
	}
	switch ev.Kind {
	case task.EventStarted:
		e.meterStart(a.Task)
	case task.EventExited, task.EventStopped:
		e.meterEnd(a)
	default: // nothing ran, or nobody knows until when
	}
}

// meterStart leaves out what would say something else: of a task that waited for
// others, it is not known since when it waited for its turn alone; and an attempt
// that was placed ahead waited behind another, which is no delay of ours.
func (e *Engine) meterStart(t task.Task) {
	s := t.Status()
	if d, ok := waited(t); ok {
		e.meter.Waited(t.Spec.Class, d)
	}
	if !e.active[t.Seq].Status().Lease.Ahead {
		e.meter.Dispatched(s.StartedAt.Sub(s.AssignedAt))
	}
}

// waited is how long a task that began to run had waited for its turn.
func waited(t task.Task) (d time.Duration, ok bool) {
	s := t.Status()
	return s.StartedAt.Sub(max(t.Spec.SubmittedAt, s.NotBefore)), len(t.Spec.After) == 0
}

func (e *Engine) meterEnd(a task.Applied) {
	s := a.Task.Status()
	last := task.Attempt{State: s.State, StartedAt: s.StartedAt, EndedAt: s.EndedAt, Outcome: s.Outcome}
	if a.Again() {
		last = s.Past[len(s.Past)-1]
	}
	if last.StartedAt != 0 {
		e.meter.Ran(a.Task.Spec.Class, last.State, last.Outcome.Class, last.EndedAt.Sub(last.StartedAt))
	}
}
