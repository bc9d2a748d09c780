package queue_test

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// heavy returns a spec with a payload of so many bytes.
func heavy(id string, size int) *task.Spec {
	s := spec(id)
	s.Payload = append(append([]byte(`{"text":"`), bytes.Repeat([]byte("x"), size)...), `"}`...)
	return s
}

// TestMovingIsLight: what happens to a task does not touch its payload. It counts
// bytes, since time depends on the machine, and so it runs alone.
func TestMovingIsLight(t *testing.T) { //nolint:paralleltest // it measures the whole process
	q := openQueue(t, queue.Options{})
	const size = 3 << 20
	seq := submit(t, q, heavy("a", size))[0].Seq
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, ev := range []task.Event{placed, launched, started, failed} {
		ev.Attempt, ev.At = 1, 1
		answers, err := q.Apply(t.Context(), []task.Change{{Seq: seq, Event: ev}})
		if err := errors.Join(err, answers[0].Err); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > size {
		t.Errorf("four steps of a task with %d bytes of payload allocated %d bytes", size, got)
	}
	if got := get(t, q, seq); len(got.Spec.Payload) < size {
		t.Errorf("the payload has %d bytes", len(got.Spec.Payload))
	}
}
