package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// overdues are the attempts that run, of classes with a limit that nothing enforces:
// who has run longer is told once, and left alone. Those of a class come to its limit
// in the order in which they began, so that a line for each class is enough, and only
// its beginning is looked at. It is made anew by recovery, so that a restart may tell
// a second time.
type overdues map[string][]begun

// begun is an attempt, and when it began to run.
type begun struct {
	ref task.Ref
	at  task.Instant
}

// usualLimit is how long tasks like t run at most, by their class; 0 = nothing is
// known, or the task has a limit of its own, which ends it.
func (e *Engine) usualLimit(t task.Task) time.Duration {
	if t.Spec.Timeout != 0 {
		return 0
	}
	return e.classes[t.Spec.Class].Limit
}

// overLimit says whether a task that runs has run longer than is usual.
func (e *Engine) overLimit(t task.Task, now task.Instant) (limit time.Duration, over bool) {
	limit = e.usualLimit(t)
	return limit, limit > 0 && t.Status().StartedAt.Add(limit) <= now
}

// noteBegun puts an attempt that began to run at the end of its line.
func (e *Engine) noteBegun(t task.Task) {
	if t.State() == task.Running && e.usualLimit(t) > 0 {
		e.overdue[t.Spec.Class] = append(e.overdue[t.Spec.Class], begun{t.Ref(), t.Status().StartedAt})
	}
}

// recoverBegun makes the lines of what runs already.
func (e *Engine) recoverBegun(active []task.Task) {
	for _, t := range active {
		e.noteBegun(t)
	}
	for _, line := range e.overdue {
		slices.SortStableFunc(line, func(a, b begun) int { return cmp.Compare(a.at, b.at) })
	}
}

// tellOverdue tells of those that have come to the limit, and returns when the next
// one will; 0 = none runs.
func (e *Engine) tellOverdue() (next task.Instant) {
	now := task.At(e.now())
	for class, line := range e.overdue {
		for len(line) > 0 {
			t, ok := e.active[line[0].ref.Seq]
			if ok && t.Ref() == line[0].ref && t.State() == task.Running {
				limit, over := e.overLimit(t, now)
				if due := line[0].at.Add(limit); !over {
					if next == 0 || due < next {
						next = due
					}
					break
				}
				e.log.Warn("a task runs longer than is usual for its class; it is left alone",
					keyTask, t.Spec.ID, keySeq, t.Seq, keyAttempt, t.Attempt(), keyClass, class, "limit", limit)
			}
			line = line[1:]
		}
		if len(line) == 0 {
			delete(e.overdue, class)
			continue
		}
		e.overdue[class] = line
	}
	return next
}
