package app

import (
	"context"
	"errors"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// queuePort shows the queue to the API.
type queuePort struct{ *queue.Queue }

var _ api.Queue = queuePort{}

// Submit translates the queue's answers.
func (p queuePort) Submit(ctx context.Context, specs []*task.Spec) ([]api.Accepted, error) {
	got, err := p.Queue.Submit(ctx, specs)
	if err != nil {
		return nil, err
	}
	out := make([]api.Accepted, len(got))
	for i, s := range got {
		out[i] = api.Accepted{Task: s.Task, Existing: s.Existing, Final: s.Final, Err: s.Err}
	}
	return out, nil
}

// Removed returns the tombstone of a task.
func (p queuePort) Removed(id string) (task.Final, error) {
	_, err := p.Lookup(id)
	if gone, ok := errors.AsType[*queue.RemovedError](err); ok {
		return gone.Final, nil
	}
	if err == nil {
		err = task.Errorf(task.CodeNotFound, "task %s was not removed", id)
	}
	return task.Final{}, err
}

// logPort shows the event log to the API.
type logPort struct{ *queue.Queue }

var _ api.Log = logPort{}

// Records starts at the first record that is still there when retention has
// removed the one that was asked for.
func (p logPort) Records(from uint64, limit int) ([]task.Record, error) {
	records, err := p.Queue.Records(from, limit)
	if gone, ok := errors.AsType[*queue.TruncatedError](err); ok {
		return p.Queue.Records(gone.First, limit)
	}
	return records, err
}

// moverPort shows the engine to the API, by task id.
type moverPort struct {
	engine *engine.Engine
	queue  *queue.Queue
}

var _ api.Mover = moverPort{}

// Cancel looks the task up and asks the engine.
func (p moverPort) Cancel(ctx context.Context, id, by, reason string) (task.Task, error) {
	t, err := p.queue.Lookup(id)
	if err != nil {
		return task.Task{}, err
	}
	return p.engine.Cancel(ctx, t, by, reason)
}

// Retry looks the task up and asks the engine.
func (p moverPort) Retry(ctx context.Context, id, by string) (task.Task, error) {
	t, err := p.queue.Lookup(id)
	if err != nil {
		return task.Task{}, err
	}
	return p.engine.Retry(ctx, t, by)
}

// Explain looks the task up and asks the engine.
func (p moverPort) Explain(_ context.Context, id string) (string, task.Task, error) {
	t, err := p.queue.Lookup(id)
	if err != nil {
		return "", task.Task{}, err
	}
	why, err := p.engine.Explain(t)
	return why, t, err
}

// waitsTold bounds of how many kinds of waiting tasks a listing says why.
const waitsTold = 200

// Waits asks the engine.
func (p moverPort) Waits() (map[task.Seq]string, error) { return p.engine.Waits(waitsTold) }
