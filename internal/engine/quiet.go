package engine

import (
	"context"
	"maps"

	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Turn has the loop look around once more, as when something came in. Whoever wants to
// be told of its quiet, and waits for something that the engine does not know of,
// turns it when that is over.
func (e *Engine) Turn() { e.inbox.ring() }

// Quiet says whether there is nothing to follow and nothing that could start, and when
// something is due by itself (0 = nothing is). All that was on disk before the call
// counts, where what Options.Quiet tells may be past.
func (e *Engine) Quiet(ctx context.Context) (quiet bool, next task.Instant, err error) {
	_, err = e.ask(ctx, input{class: func(context.Context) (classAnswer, error) {
		quiet, next = e.isQuiet(), e.next()
		return classAnswer{}, nil
	}})
	return quiet, next, err
}

// tellQuiet tells whoever wants to know that there is nothing to follow and nothing
// that could start: a run without a daemon ends then.
func (e *Engine) tellQuiet() {
	if e.quiet == nil || !e.isQuiet() {
		return
	}
	e.quiet(e.next())
}

// next is when something is due by itself; 0 = nothing is.
func (e *Engine) next() task.Instant {
	if e.stuck.err != nil {
		return 0 // what is due is to try again
	}
	return e.due
}

// isQuiet says whether only time, or somebody from outside, brings something to do.
// That a backend is down is no quiet as long as something waits that it might take. Where
// nothing can be stored for a while, and nothing runs, only somebody who makes room for it
// brings something to do.
func (e *Engine) isQuiet() bool {
	if e.stuck.err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.active) == 0 && e.stuck.outlasts(e.now())
	}
	if e.todo.any() || e.inbox.any() || len(e.wake) > 0 || e.gpusSoon {
		return false // another round follows at once, or a step outside is still due
	}
	e.mu.Lock()
	active := len(e.active)
	s := e.snapshot(e.tally.clone())
	e.mu.Unlock()
	return active == 0 && !fetching(s) && (!e.anyDown() || nothingFor(s, e.store.Least()))
}

// fetching says that something is being fetched that a task waits for.
func fetching(s scheduler.Snapshot) bool {
	for _, b := range s.Backends {
		for _, image := range b.Images {
			if b.Down == "" && (image.Busy || image.Bad) {
				return true // a bad one is refused in the next round
			}
		}
	}
	return false
}

// nothingFor says that no task could start even if every backend was up.
func nothingFor(s scheduler.Snapshot, least map[string]scheduler.Usage) bool {
	up := maps.Clone(s.Backends)
	for name, b := range up {
		b.Down = ""
		up[name] = b
	}
	s.Backends, s.Least = up, least
	return scheduler.NewPlanner(s).Full()
}
