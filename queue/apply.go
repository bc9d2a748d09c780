package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Apply runs the changes through task.Apply, in order and in one transaction.
// The answer has one entry per change: one that task.Apply refused, that names
// no task (ErrNotFound, and task.ErrRemoved if there was one), or one that cannot be read (task.ErrDamaged), has the
// reason in Err and does not disturb the others. The error is for all of them:
// nothing was stored. The tasks in the answer have no environment and no long
// payload; Get has them.
//
// For EventRetried the queue itself finds out what the task has to wait for. If
// it could not run because of how a dependency ended, that is a conflict, and the
// task stays as it ended.
func (q *Queue) Apply(ctx context.Context, changes []task.Change) ([]task.Applied, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	answers := make([]task.Applied, len(changes))
	err := q.write(ctx, len(changes), func(b *batch) error {
		for i, c := range changes {
			var err error
			if answers[i], err = b.change(c); err != nil {
				return fmt.Errorf("apply %s to task %d: %w", c.Event.Kind, c.Seq, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// change applies one change. Its error means that the transaction cannot go on.
func (b *batch) change(c task.Change) (task.Applied, error) {
	e, err := b.entry(c.Seq)
	if errors.Is(err, ErrNotFound) && c.Seq <= b.lastSeq {
		err = errRemoved(c.Seq)
	}
	if errors.Is(err, ErrNotFound) || b.q.damaged(c.Seq, err) {
		return task.Applied{Err: err}, nil
	}
	if err != nil {
		return task.Applied{}, err
	}
	answer := task.Applied{From: e.task.State()}
	answer.Err, err = b.tryChange(e, c)
	answer.Task = e.task
	return answer, err
}

// tryChange tells a refusal, which is an answer, from a failure.
func (b *batch) tryChange(e *entry, c task.Change) (refused, err error) {
	var deps dependencies
	switch c.Event.Kind { //nolint:exhaustive // the others need no preparation
	case task.EventDepEnded:
		// Blocked has to agree with the keys in waits, which only Advance moves.
		return fmt.Errorf("%w: %s is the queue's own", task.ErrIllegal, c.Event.Kind), nil
	case task.EventRetried:
		if deps, err = b.resolve(e.task.Spec.After); err != nil {
			return b.unknownEnd(e.task.Spec.ID, err)
		}
		if deps.refuse != "" && e.task.State().Terminal() && e.task.State() != task.Succeeded {
			return task.Errorf(task.CodeConflict, "task %s cannot be tried again as things are: it %s; retry that one first, or submit this one again without waiting for it", e.task.Spec.ID, deps.refuse), nil
		}
		c.Event.Blocked = len(deps.waits)
	}
	next, refused := task.Apply(e.task, c.Event)
	if refused != nil {
		return refused, nil
	}
	if c.Event.Kind == task.EventPlaced && len(c.Event.Lease.GPUs) > 0 {
		if refused := b.mayLease(e.task, c.Event.Lease); refused != nil {
			return refused, nil
		}
	}
	if err := b.took(e, next, c.Event); err != nil {
		return nil, err
	}
	switch c.Event.Kind { //nolint:exhaustive // the others have no sequel
	case task.EventExited, task.EventNotStarted, task.EventStopped, task.EventVanished:
		return nil, b.storeResult(c.Seq, c.Result)
	case task.EventRetried:
		e.waits = deps.waits
		return nil, b.storeResult(c.Seq, nil)
	}
	return nil, nil
}

// step applies an event of the queue's own making, which has to fit.
func (b *batch) step(e *entry, ev task.Event) error {
	next, err := task.Apply(e.task, ev)
	if err != nil {
		return err
	}
	return b.took(e, next, ev)
}

// took notes that a task has taken a step.
func (b *batch) took(e *entry, next task.Task, ev task.Event) error {
	rec := recordOf(e.task, next, ev)
	b.moveLease(e.task, next.Status().Lease)
	e.task, e.dirty, e.at = next, true, ev.At
	if ev.Kind == task.EventCancelAsked {
		b.wake = true // for an active task no index changes
	}
	return b.log(rec)
}

// storeResult keeps the result of the latest attempt alone.
func (b *batch) storeResult(seq task.Seq, r task.Result) error {
	if len(r) == 0 {
		return b.bucket(bucketResults).Delete(seqKey(seq))
	}
	return b.bucket(bucketResults).Put(seqKey(seq), sealBytes(r))
}
