package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// repeatStop is how long a stop may take hold before the backend is told again,
// which is how a stop survives a supervisor that was killed.
const repeatStop = 10 * time.Second

// act does the steps outside that are due. What fails stays due, and is tried again
// after a while (setback). It runs in the loop, so a backend must not make these calls
// wait for work to happen. Whoever has been followed by another owner meanwhile does
// none of them: that one does.
func (e *Engine) act(ctx context.Context) {
	if e.todo.any() && !e.stillOwner() {
		return
	}
	e.launch(ctx)
	e.stop(ctx)
	e.forget(ctx)
}

// stillOwner says whether the steps outside are ours to do. Why not is logged once.
func (e *Engine) stillOwner() bool {
	err := e.store.ConfirmLease()
	if err != nil && !e.unconfirmed {
		e.log.Warn("nothing is started, stopped or forgotten before it is known that the queue is still ours", "error", err)
	}
	e.unconfirmed = err != nil
	return err == nil
}

// launch hands over what was placed. Only what is still Assigned is handed over:
// it may have been cancelled, or its backend may have it already.
func (e *Engine) launch(ctx context.Context) {
	if len(e.todo.launch) == 0 {
		return
	}
	due, left := e.launchable()
	for name, tasks := range due {
		failpoint.Here("engine/before-launch")
		if err := e.backends[name].Backend.Launch(ctx, tasks); err != nil {
			e.failed(chore{name, stepLaunch}, len(tasks), err)
			for _, t := range tasks {
				left = append(left, t.Seq)
			}
			continue
		}
		e.worked(chore{name, stepLaunch})
		failpoint.Here("engine/after-launch")
	}
	e.todo.launch = left
}

// launchable returns what can be handed over, by backend, and what has to wait.
func (e *Engine) launchable() (due map[string][]task.Task, left []task.Seq) {
	due = make(map[string][]task.Task)
	for _, seq := range e.todo.launch {
		t, ok := e.active[seq]
		if !ok || t.State() != task.Assigned {
			continue
		}
		b := t.Status().Backend
		if r, ok := e.backends[b]; !ok || r.Backend.Down() != "" || e.held(chore{b, stepLaunch}) {
			left = append(left, seq)
			continue
		}
		// The table of active tasks has no payloads and environments.
		whole, err := e.store.Get(seq)
		switch {
		case errors.Is(err, task.ErrDamaged):
			e.cannotLaunch(t, err)
		case err != nil:
			e.log.Warn("a task could not be read to be handed over; will try again", keyTask, t.Spec.ID, "error", err)
			left = append(left, seq)
		default:
			due[b] = append(due[b], whole)
		}
	}
	return due, left
}

// cannotLaunch ends a task of which a part cannot be read. Its state can be
// moved, so it does not hold its place for ever.
func (e *Engine) cannotLaunch(t task.Task, err error) {
	e.inbox.putBack([]task.Change{{Seq: t.Seq, Event: task.Event{
		Kind: task.EventNotStarted, At: task.At(e.now()), Attempt: t.Attempt(), Class: task.Damaged,
		Text: fmt.Sprintf("what is stored about it is damaged, so it cannot be started (%v); submit the work again under another id", err),
	}}})
	e.inbox.ring()
}

// stop tells backends to end what is Stopping. It stays due until the end is
// known.
func (e *Engine) stop(ctx context.Context) {
	now := e.now()
	sum := map[string]stops{}
	for seq, s := range e.todo.stop {
		t, ok := e.active[seq]
		if !ok || t.State() != task.Stopping {
			delete(e.todo.stop, seq)
			continue
		}
		r, ok := e.backends[t.Status().Backend]
		if !ok {
			continue
		}
		n := sum[r.Backend.Name()]
		if s.due(now) {
			failpoint.Here("engine/before-stop")
			if err := r.Backend.Stop(ctx, t); err != nil {
				s.setback = s.again(now)
				n.failed, n.last = n.failed+1, err
			} else {
				failpoint.Here("engine/after-stop")
				s = stopping{told: now}
				n.done = true
			}
			e.todo.stop[seq] = s
		}
		n.failing = n.failing || s.wait > 0
		sum[r.Backend.Name()] = n
	}
	e.noteStops(sum)
}

// stops is how it went for one backend. When it is down it goes wrong for all its
// tasks, and a line for each would bury the log.
type stops struct {
	failed  int // tasks of which it could not be told now
	last    error
	done    bool // it could of another
	failing bool // there is one of which it could not be told yet
}

// noteStops notes it for all.
func (e *Engine) noteStops(sum map[string]stops) {
	for _, name := range e.order {
		c, n := chore{name, stepStop}, sum[name]
		switch {
		case n.failed > 0:
			e.failed(c, n.failed, n.last)
		case !n.failing:
			e.settle(c, n.done)
		}
	}
}

// forget tells backends which ends are on disk.
func (e *Engine) forget(ctx context.Context) {
	if len(e.todo.forget) == 0 {
		return
	}
	due := make(map[string][]task.Ref)
	for k := range e.todo.forget {
		if _, ok := e.backends[k.backend]; !ok {
			delete(e.todo.forget, k)
			continue
		}
		if !e.held(chore{k.backend, stepForget}) {
			due[k.backend] = append(due[k.backend], k.ref)
		}
	}
	for name, refs := range due {
		failpoint.Here("engine/before-forget")
		if err := e.backends[name].Backend.Forget(ctx, refs); err != nil {
			e.failed(chore{name, stepForget}, len(refs), err)
			continue
		}
		e.worked(chore{name, stepForget})
		for _, ref := range refs {
			delete(e.todo.forget, kept{ref, name})
		}
	}
}
