package queue_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// TestGPULeasedOnce: the transaction that grants a lease refuses a GPU that another task
// has, within a batch and after the queue was opened anew; shares may meet on one.
func TestGPULeasedOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *queue.Queue {
		q, err := queue.Open(t.Context(), queue.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	q := open()
	var specs []*task.Spec
	for i := range 5 {
		specs = append(specs, &task.Spec{ID: fmt.Sprint("t", i), Class: "gpu", Argv: []string{"true"}, Dir: "/", Resources: task.Resources{GPUs: 1}})
	}
	if _, err := q.Submit(t.Context(), specs); err != nil {
		t.Fatal(err)
	}
	place := func(seq task.Seq, share int64, uuids ...string) task.Change {
		return task.Change{Seq: seq, Event: task.Event{Kind: task.EventPlaced, At: 1, Attempt: 1, Backend: "process", Lease: task.Lease{GPUs: uuids, GPUMem: share}}}
	}
	apply := func(changes ...task.Change) []task.Applied {
		t.Helper()
		got, err := q.Apply(context.Background(), changes)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := apply(place(1, 0, "GPU-a"), place(2, 0, "GPU-b", "GPU-a"), place(3, 7, "GPU-b"), place(4, 7, "GPU-b"))
	for i, want := range []task.Code{0, task.CodeConflict, 0, 0} {
		if refused := got[i].Err != nil; refused != (want != 0) || refused && task.CodeOf(got[i].Err) != want {
			t.Errorf("lease %d: %v", i+1, got[i].Err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = open()
	defer q.Close()
	if got := apply(place(2, 0, "GPU-a"))[0]; task.CodeOf(got.Err) != task.CodeConflict {
		t.Errorf("leased again after a restart: %v", got.Err)
	}
	end := task.Change{Seq: 1, Event: task.Event{Kind: task.EventNotStarted, At: 2, Attempt: 1, Class: task.Damaged, Text: "x"}}
	for i, a := range apply(end, place(2, 0, "GPU-a"), place(5, 0, "GPU-b")) {
		if refused := a.Err != nil; refused != (i == 2) {
			t.Errorf("change %d: %v", i, a.Err)
		}
	}
}
