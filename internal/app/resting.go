package app

import (
	"context"

	"github.com/dspy-agent/dspy-agent/internal/container"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/process"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/workers"
	"github.com/dspy-agent/dspy-agent/slurm"
)

// restingAll are those in the places of all backends.
func restingAll(down string) []engine.Registration {
	return []engine.Registration{asProcess(resting{process.Name, down}), asContainer(resting{container.Name, down}), asSlurm(resting{slurm.Name, down}, 0), asWorkers(resting{workers.Name, down})}
}

func asProcess(b engine.Backend) engine.Registration {
	return engine.Registration{Backend: b, Local: true, NoImage: true}
}

func asContainer(b engine.Backend) engine.Registration {
	return engine.Registration{Backend: b, Local: true, Image: true}
}

func asSlurm(b engine.Backend, most int) engine.Registration {
	return engine.Registration{Backend: b, NoImage: true, Most: most}
}

// resting stands for a backend where nobody runs tasks. It takes nothing
// and reports nothing: what has to be done is on disk before a backend is asked, and
// the next owner's recovery asks again.
type resting struct {
	name string // of the backend whose place it takes, so that its tasks are known
	down string // why nothing can be handed over; "" lets the engine explain as if it could be
}

var _ engine.Backend = resting{}

// Name is that of the backend whose place it takes.
func (r resting) Name() string { return r.name }

// Down keeps the engine from placing anything.
func (r resting) Down() string { return r.down }

// Launch refuses what was placed before; it stays due.
func (r resting) Launch(context.Context, []task.Task) error {
	return task.Errorf(task.CodeUnavailable, "%s", r.down)
}

// Stop does nothing: that the task is Stopping is on disk.
func (resting) Stop(context.Context, task.Task) error { return nil }

// Watch reports nothing.
func (resting) Watch(ctx context.Context, _ []task.Task, _ func([]task.Change)) error {
	<-ctx.Done()
	return nil
}

// Forget does nothing: who has kept the end reports it again to the next owner.
func (resting) Forget(context.Context, []task.Ref) error { return nil }
