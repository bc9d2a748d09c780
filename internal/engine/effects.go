package engine

import (
	"context"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// repeatStop is how long a stop may take hold before the backend is told again,
// which is how a stop survives a supervisor that was killed.
const repeatStop = 10 * time.Second

// act does the steps outside that are due. What fails stays due. It runs in the
// loop, so a backend must not make these calls wait for work to happen.
func (e *Engine) act(ctx context.Context) {
	e.launch(ctx)
	e.stop(ctx)
	e.forget(ctx)
}

// launch hands over what was placed. Only what is still Assigned is handed over:
// it may have been cancelled, or its backend may have it already.
func (e *Engine) launch(ctx context.Context) {
	if len(e.todo.launch) == 0 {
		return
	}
	due := make(map[string][]task.Task)
	var left []task.Seq
	for _, seq := range e.todo.launch {
		t, ok := e.active[seq]
		if !ok || t.State() != task.Assigned {
			continue
		}
		b := t.Status().Backend
		if r, ok := e.backends[b]; !ok || r.Backend.Down() != "" {
			left = append(left, seq)
			continue
		}
		due[b] = append(due[b], t)
	}
	for name, tasks := range due {
		failpoint.Here("engine/before-launch")
		if err := e.backends[name].Backend.Launch(ctx, tasks); err != nil {
			e.log.Warn("tasks could not be handed over; will try again", keyBackend, name, "tasks", len(tasks), "error", err)
			for _, t := range tasks {
				left = append(left, t.Seq)
			}
			continue
		}
		failpoint.Here("engine/after-launch")
	}
	e.todo.launch = left
}

// stop tells backends to end what is Stopping. It stays due until the end is
// known.
func (e *Engine) stop(ctx context.Context) {
	now := e.now()
	for seq, last := range e.todo.stop {
		t, ok := e.active[seq]
		if !ok || t.State() != task.Stopping {
			delete(e.todo.stop, seq)
			continue
		}
		r, ok := e.backends[t.Status().Backend]
		if !ok || now.Sub(last) < repeatStop {
			continue
		}
		failpoint.Here("engine/before-stop")
		if err := r.Backend.Stop(ctx, t); err != nil {
			e.log.Warn("task could not be stopped; will try again", keyTask, t.Spec.ID, keyBackend, r.Backend.Name(), "error", err)
			continue
		}
		failpoint.Here("engine/after-stop")
		e.todo.stop[seq] = now
	}
}

// forget tells backends which ends are on disk.
func (e *Engine) forget(ctx context.Context) {
	if len(e.todo.forget) == 0 {
		return
	}
	due := make(map[string][]task.Ref)
	for ref, name := range e.todo.forget {
		if _, ok := e.backends[name]; !ok {
			delete(e.todo.forget, ref)
			continue
		}
		due[name] = append(due[name], ref)
	}
	for name, refs := range due {
		failpoint.Here("engine/before-forget")
		if err := e.backends[name].Backend.Forget(ctx, refs); err != nil {
			e.log.Debug("a backend could not be told to forget; will try again", keyBackend, name, "error", err)
			continue
		}
		for _, ref := range refs {
			delete(e.todo.forget, ref)
		}
	}
}
