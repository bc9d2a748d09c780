package queue_test

import (
	"context"
	"slices"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// TestImages: the list has what tasks in the line need, changes with its version, and
// is the same when the queue is opened again.
func TestImages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir})
	_, before := q.Images()
	add := func(id, image string) task.Task {
		got, err := q.Submit(context.Background(), []*task.Spec{{ID: id, Class: "cpu", Argv: []string{"x"}, Image: image}})
		if err != nil || got[0].Err != nil {
			t.Fatal(err, got)
		}
		return got[0].Task
	}
	b := add("1", "b:1")
	add("2", "a:1")
	add("3", "a:1")
	add("4", "")
	list, version := q.Images()
	if !slices.Equal(list, []string{"a:1", "b:1"}) || version == before {
		t.Fatalf("%q, version %d after %d", list, version, before)
	}
	if _, again := q.Images(); again != version {
		t.Error("the version changes by itself")
	}
	if _, err := q.Apply(context.Background(), []task.Change{{Seq: b.Seq, Event: task.Event{Kind: task.EventPlaced, At: later, Attempt: 1, Backend: "container"}}}); err != nil {
		t.Fatal(err)
	}
	if list, after := q.Images(); !slices.Equal(list, []string{"a:1"}) || after == version {
		t.Fatalf("%q, version %d after %d", list, after, version)
	}
	closeQueue(t, q)
	q = openQueue(t, queue.Options{Dir: dir})
	if list, _ := q.Images(); !slices.Equal(list, []string{"a:1"}) {
		t.Fatalf("opened again: %q", list)
	}
}
