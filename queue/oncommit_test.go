package queue_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// TestOnCommit holds that whoever wants to know is told of each commit before its
// callers are answered, and of nothing that was not stored.
func TestOnCommit(t *testing.T) {
	t.Parallel()
	var told [][]uint64 // written by the queue's writer, while the test waits for it
	q := openQueue(t, queue.Options{OnCommit: func(took time.Duration, added []task.Record) {
		if took <= 0 {
			t.Errorf("a commit took %s", took)
		}
		var indexes []uint64
		for _, r := range added {
			indexes = append(indexes, r.Index)
		}
		told = append(told, indexes)
	}})
	want := func(last ...uint64) {
		t.Helper()
		if len(told) == 0 || !slices.Equal(told[len(told)-1], last) {
			t.Errorf("told of %v, want %v last", told, last)
		}
	}
	tasks := submit(t, q, spec("a"), spec("b"))
	want(1, 2)
	apply(t, q, tasks[0].Seq, task.Event{Kind: task.EventPlaced, Backend: "x"})
	want(3)
	before := len(told)
	if _, err := q.Submit(context.Background(), []*task.Spec{{}}); err != nil {
		t.Fatal(err)
	}
	if len(told) != before {
		t.Errorf("told of %v, after nothing was stored", told[before:])
	}
}
