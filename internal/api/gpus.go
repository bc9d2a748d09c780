package api

import (
	"context"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// GPUs is what the server needs to know of this machine's GPUs.
type GPUs interface {
	// Missing says why no task that needs a GPU can ever start here; "" = one may. Right
	// after a start it waits a moment for the first look.
	Missing(ctx context.Context) string
}

// gpus gives a task the GPUs of its class, unless it says itself what it needs, and
// refuses one that could never have them.
func (s service) gpus(ctx context.Context, spec *task.Spec, class Class) error {
	r := &spec.Resources
	if r.GPURequest().None() {
		r.GPUs = class.GPUs
	}
	if r.GPUModel != "" && r.GPUs == 0 && r.GPUMem == 0 && r.MIG == "" {
		r.GPUs = 1
	}
	ask := r.GPURequest()
	if ask.None() {
		return nil
	}
	if problem := ask.Problem(); problem != "" {
		return task.Errorf(task.CodeInvalid, "%s", problem)
	}
	if s.opts.GPUs == nil {
		return nil // whoever runs the queue knows
	}
	if missing := s.opts.GPUs.Missing(ctx); missing != "" {
		return task.Errorf(task.CodeUnsupported, "it needs %s, and %s", ask, missing)
	}
	return nil
}
