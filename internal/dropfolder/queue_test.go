package dropfolder

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// onQueue is the real queue, as a program would give it to a Folder.
type onQueue struct{ *queue.Queue }

// origin is kept with a task that came from a file.
type origin struct {
	Ticket string `json:"ticket"`
}

func (q onQueue) Submit(ctx context.Context, subs []Submission) ([]Answer, error) {
	specs := make([]*task.Spec, len(subs))
	for i, s := range subs {
		content, err := s.Payload.JSON()
		if err != nil {
			return nil, err
		}
		extra, err := json.Marshal(origin{s.Ticket})
		if err != nil {
			return nil, err
		}
		specs[i] = &task.Spec{ID: s.ID, Class: "cpu_short", Priority: s.Priority, Builtin: task.BuiltinEcho, Payload: content, Via: "drop", Extra: extra}
	}
	accepted, err := q.Queue.Submit(ctx, specs)
	answers := make([]Answer, len(accepted))
	for i, a := range accepted {
		answers[i] = Answer{Existing: a.Existing || a.Final != nil, Err: a.Err}
	}
	return answers, err
}

func (q onQueue) Outcome(id string) (Outcome, error) {
	t, err := q.Lookup(id)
	if err != nil {
		return Outcome{}, err
	}
	result, err := q.Result(t.Seq)
	var from origin
	if len(t.Spec.Extra) > 0 && err == nil {
		err = json.Unmarshal(t.Spec.Extra, &from)
	}
	s := t.Status()
	return Outcome{
		State: s.State, Result: result, Error: s.Outcome.Message, EndedAt: s.EndedAt.Time(), Duration: t.Ran(0), Ticket: from.Ticket,
	}, err
}

func (q onQueue) Cancel(ctx context.Context, id, by, reason string) error {
	t, err := q.Lookup(id)
	if err != nil {
		return err
	}
	if t.State().Terminal() {
		return task.Errorf(task.CodeConflict, "task %s has ended", id)
	}
	return q.apply(ctx, t, task.Event{Kind: task.EventCancelAsked, By: by, Text: reason})
}

func (q onQueue) Order(context.Context, json.RawMessage) error {
	return task.Errorf(task.CodeUnsupported, "nobody orders here")
}

func (q onQueue) apply(ctx context.Context, t task.Task, events ...task.Event) error {
	for _, ev := range events {
		ev.Attempt = t.Attempt()
		applied, err := q.Apply(ctx, []task.Change{{Seq: t.Seq, Event: ev, Result: json.RawMessage(`{"ok":true}`)}})
		if err != nil {
			return err
		}
		if err := applied[0].Err; err != nil {
			return fmt.Errorf("%s: %w", ev.Kind, err)
		}
	}
	return nil
}

// end takes a task to its end, unless it is there.
func (q onQueue) end(ctx context.Context, id string) error {
	t, err := q.Lookup(id)
	if err != nil || t.State().Terminal() {
		return err
	}
	if t.Status().Cancel != nil {
		return q.apply(ctx, t, task.Event{Kind: task.EventCancelled})
	}
	return q.apply(ctx, t,
		task.Event{Kind: task.EventPlaced, Backend: "process", Lease: task.Lease{CPUMilli: 1000}},
		task.Event{Kind: task.EventLaunched, Handle: []byte("handle")},
		task.Event{Kind: task.EventStarted},
		task.Event{Kind: task.EventExited})
}

func openQueue(dir string) (onQueue, error) {
	q, err := queue.Open(context.Background(), queue.Options{Dir: filepath.Join(dir, "queue"), Logger: slog.New(slog.DiscardHandler)})
	return onQueue{q}, err
}

// The whole way with the real queue.
func TestWithTheRealQueue(t *testing.T) {
	dir := t.TempDir()
	q, err := openQueue(dir)
	must(t, err)
	defer q.Close()
	f, err := New(Options{Dir: filepath.Join(dir, "queue"), Tasks: q, Log: q, Origin: q, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	id, err := Put(filepath.Join(dir, "queue"), File{Payload: []byte(`{"message":"hello"}`)})
	must(t, err)
	must(t, q.WaitRecords(t.Context(), 0))
	must(t, q.end(t.Context(), id))
	for b := (Backlog{Taken: 1}); b.Any(); {
		b, err = Waiting(filepath.Join(dir, "queue"), nil)
		must(t, err)
	}
	cancel()
	must(t, <-done)
}
