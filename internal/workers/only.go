package workers

import (
	"context"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// only is the owner as one worker may call it: in its own name.
type only struct {
	b  *Backend
	id string
}

func (o only) check(worker string) error {
	if worker != o.id {
		return task.Errorf(task.CodeInvalid, "worker %s cannot call in the name of worker %q", o.id, worker)
	}
	return nil
}

// Lease is Backend.Lease.
func (o only) Lease(ctx context.Context, w lease.Want) (lease.Grant, error) {
	if err := o.check(w.Worker); err != nil {
		return lease.Grant{}, err
	}
	return o.b.Lease(ctx, w)
}

// Extend is Backend.Extend.
func (o only) Extend(ctx context.Context, h lease.Hold) (lease.Orders, error) {
	if err := o.check(h.Worker); err != nil {
		return lease.Orders{}, err
	}
	return o.b.Extend(ctx, h)
}

// Complete is Backend.Complete.
func (o only) Complete(ctx context.Context, worker string, reports []lease.Report) ([]task.Ref, error) {
	if err := o.check(worker); err != nil {
		return nil, err
	}
	return o.b.Complete(ctx, worker, reports)
}
