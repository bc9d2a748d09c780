package engine

import (
	"context"
	"errors"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Cancel stores the wish to end a task and begins to carry it out. The task is
// returned as it is then: Cancelled when it had not been placed, Stopping when a
// backend has it. Asking again is no error; a task that has ended is one with
// CodeConflict.
func (e *Engine) Cancel(ctx context.Context, t task.Task, by, reason string) (task.Task, error) {
	at := task.At(e.now())
	applied, err := e.submit(ctx, []task.Change{
		{Seq: t.Seq, Event: task.Event{Kind: task.EventCancelAsked, At: at, By: by, Text: reason}},
		{Seq: t.Seq, Event: task.Event{Kind: task.EventCancelled, At: at, Attempt: t.Attempt()}},
	})
	if err != nil {
		return task.Task{}, err
	}
	now, err := e.store.Get(t.Seq)
	if err != nil {
		return task.Task{}, err
	}
	if errors.Is(applied[0].Err, task.ErrStale) && now.State().Terminal() && now.State() != task.Cancelled {
		return now, task.Errorf(task.CodeConflict, "task %s has already ended: it %s", t.Spec.ID, endWord(now.State()))
	}
	if err := refusal(applied[0]); err != nil {
		return now, err
	}
	return now, nil
}

// Retry gives a task that ended badly another attempt, at once and with fresh
// budgets.
func (e *Engine) Retry(ctx context.Context, t task.Task, by string) (task.Task, error) {
	applied, err := e.submit(ctx, []task.Change{
		{Seq: t.Seq, Event: task.Event{Kind: task.EventRetried, At: task.At(e.now()), Attempt: t.Attempt(), By: by}},
	})
	if err != nil {
		return task.Task{}, err
	}
	if err := refusal(applied[0]); err != nil {
		return applied[0].Task, err
	}
	return applied[0].Task, nil
}

// refusal returns an error that a person caused, and not that something had
// happened already.
func refusal(a task.Applied) error {
	if a.Err == nil || errors.Is(a.Err, task.ErrStale) {
		return nil
	}
	return a.Err
}

func endWord(s task.State) string {
	switch s {
	case task.Lost:
		return "is lost"
	case task.Cancelled:
		return "was cancelled"
	default:
		return s.String()
	}
}

// Release lets a held task go, so that it waits like any other. already says that it
// was not held.
func (e *Engine) Release(ctx context.Context, t task.Task, by string) (now task.Task, already bool, err error) {
	applied, err := e.submit(ctx, []task.Change{
		{Seq: t.Seq, Event: task.Event{Kind: task.EventHeld, At: task.At(e.now()), Attempt: t.Attempt(), By: by}},
	})
	if err != nil {
		return task.Task{}, false, err
	}
	got := applied[0]
	if got.Task.State().Terminal() {
		return got.Task, false, task.Errorf(task.CodeConflict, "task %s has already ended: it %s", t.Spec.ID, endWord(got.Task.State()))
	}
	return got.Task, errors.Is(got.Err, task.ErrStale), refusal(got)
}
