package queue_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// of returns a task of a shape of its own kind.
func ofShape(id string, shape int) *task.Spec {
	s := spec(id)
	s.Image = fmt.Sprint("image-", shape)
	return s
}

// line returns the ids that a walk shows which takes n tasks and skips the shapes.
func line(t *testing.T, q *queue.Queue, n int, skip ...string) (ids []string) {
	t.Helper()
	err := q.Line(func(h scheduler.Head) scheduler.Verdict {
		if slices.Contains(skip, h.Image) {
			return scheduler.Skip
		}
		if ids = append(ids, h.ID); len(ids) == n {
			return scheduler.Stop
		}
		return scheduler.More
	})
	if err != nil {
		t.Fatalf("line: %v", err)
	}
	return ids
}

// TestLineAcrossShapes: the line goes by Order and Seq, whatever the shapes, and
// stays so as its heads go and come back.
func TestLineAcrossShapes(t *testing.T) {
	t.Parallel()
	c := newClock()
	q := openQueue(t, queue.Options{Now: c.now})
	var specs []*task.Spec
	for i := range 12 {
		s := ofShape(fmt.Sprint("t", i), i%3)
		s.Retries = 1
		if i == 7 {
			s.Priority = 1
		}
		specs = append(specs, s)
	}
	tasks := submit(t, q, specs...)
	want := []string{"t7", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "t8", "t9", "t10", "t11"}
	if got := line(t, q, 100); !slices.Equal(got, want) {
		t.Errorf("line %v, want %v", got, want)
	}
	if got, want := line(t, q, 3, "image-1"), []string{"t0", "t2", "t3"}; !slices.Equal(got, want) {
		t.Errorf("line without a shape %v, want %v", got, want)
	}
	end := failed
	end.At = c.instant()
	apply(t, q, tasks[0].Seq, placed, launched, started, end)
	apply(t, q, tasks[1].Seq, placed)
	if got, want := line(t, q, 3), []string{"t7", "t2", "t3"}; !slices.Equal(got, want) {
		t.Errorf("line %v after two were placed, want %v", got, want)
	}
	c.advance(time.Hour)
	advance(t, q, c.instant())
	heads, err := headsOf(q, 1)
	if err != nil || len(heads) != 3 || heads[1].ID != "t0" || heads[1].Attempt != 2 {
		t.Errorf("after the retry: %+v %v", heads, err)
	}
}

// TestHeadIsReadAgain: what is remembered of a head is forgotten when the same
// task comes back to the same place in another attempt.
func TestHeadIsReadAgain(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	seq := submit(t, q, spec("a"))[0].Seq
	for attempt := 1; attempt <= 3; attempt++ {
		heads, err := headsOf(q, 1)
		if err != nil || len(heads) != 1 || heads[0].Attempt != attempt {
			t.Fatalf("heads %+v %v, want attempt %d", heads, err, attempt)
		}
		apply(t, q, seq, placed, launched, started, failed, task.Event{Kind: task.EventRetried, By: "me"})
	}
}
