package queue_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

func TestRecordsTellTheStory(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	s := spec("a")
	s.Retries = 1
	seq := submit(t, q, s)[0].Seq
	apply(t, q, seq, placed, launched, started, failed)
	records, err := q.Records(1, 100)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []task.EventKind
	for _, r := range records {
		kinds = append(kinds, r.Kind)
		if r.ID != "a" || r.Class != "cpu" || r.Seq != seq || r.Attempt != 1 {
			t.Errorf("record %+v", r)
		}
	}
	want := []task.EventKind{task.EventSubmitted, task.EventPlaced, task.EventLaunched, task.EventStarted, task.EventExited}
	if !slices.Equal(kinds, want) {
		t.Errorf("kinds %v, want %v", kinds, want)
	}
	last := records[len(records)-1]
	if !last.Again || last.Ended() || last.To != task.Failed || last.From != task.Running ||
		last.NotBefore == 0 || last.Outcome.ExitCode != 3 || last.Backend != "process" {
		t.Errorf("the end of an attempt that another follows: %+v", last)
	}
}

// TestRecordsFromDiskAndMemory reads the same records both ways.
func TestRecordsFromDiskAndMemory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir})
	submit(t, q, numbered("a", 0, 6000)...) // more than memory keeps
	mid, err := q.Records(5000, 3)
	if err != nil || len(mid) != 3 || mid[0].Index != 5000 {
		t.Fatalf("from memory: %+v %v", mid, err)
	}
	old, err := q.Records(10, 3)
	if err != nil || len(old) != 3 || old[0].Index != 10 {
		t.Fatalf("from disk: %+v %v", old, err)
	}
	closeQueue(t, q)
	q = openQueue(t, queue.Options{Dir: dir})
	again, err := q.Records(5000, 3)
	if err != nil || !slices.Equal(again, mid) {
		t.Errorf("from disk %+v (%v), from memory %+v", again, err, mid)
	}
	if none, err := q.Records(6001, 3); err != nil || len(none) != 0 || q.LastIndex() != 6000 {
		t.Errorf("beyond the end: %v %v", none, err)
	}
}

func TestWaitRecords(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	heard := make(chan error, 1)
	go func() { heard <- q.WaitRecords(context.Background(), 0) }()
	submit(t, q, spec("a"))
	if err := <-heard; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { heard <- q.WaitRecords(ctx, 1) }()
	cancel()
	if err := <-heard; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go func() { heard <- q.WaitRecords(context.Background(), 1) }()
	closeQueue(t, q)
	if err := <-heard; !errors.Is(err, queue.ErrClosed) {
		t.Error(err)
	}
}

func TestDroppedRecords(t *testing.T) {
	t.Parallel()
	c := newClock()
	q := openQueue(t, queue.Options{Now: c.now, Retention: queue.Retention{EventMax: 5}})
	submit(t, q, numbered("a", 0, 12)...)
	if _, more, err := q.Expire(context.Background(), c.instant()); err != nil || more {
		t.Fatalf("expire: %v %v", more, err)
	}
	_, err := q.Records(3, 10)
	var truncated *queue.TruncatedError
	if !errors.As(err, &truncated) || truncated.First != 8 || !errors.Is(err, queue.ErrTruncated) {
		t.Fatalf("records: %v", err)
	}
	got, err := q.Records(0, 10)
	if err != nil || len(got) != 5 || got[0].Index != 8 {
		t.Errorf("from the oldest: %+v %v", got, err)
	}
}

func TestChanged(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	changed := func() bool {
		select {
		case <-q.Changed():
			return true
		default:
			return false
		}
	}
	seq := submit(t, q, spec("a"), spec("b"))[0].Seq
	if !changed() || changed() {
		t.Error("submitting signals once")
	}
	apply(t, q, seq, placed, launched, started)
	if changed() {
		t.Error("a task that moves on needs no planning")
	}
	apply(t, q, seq, task.Event{Kind: task.EventCancelAsked, By: "me"})
	if !changed() {
		t.Error("a cancel is not signalled")
	}
	apply(t, q, seq, succeeded)
	if !changed() {
		t.Error("an end is not signalled")
	}
}

func TestDelayedRetry(t *testing.T) {
	t.Parallel()
	c := newClock()
	q := openQueue(t, queue.Options{Now: c.now})
	s := spec("a")
	s.Retries = 1
	seq := submit(t, q, s)[0].Seq
	end := failed
	end.At = c.instant()
	got := apply(t, q, seq, placed, launched, started, end)
	if heads, err := headsOf(q, 1); err != nil || len(heads) != 0 {
		t.Errorf("it is ready before its time: %+v %v", heads, err)
	}
	next := advance(t, q, c.instant())
	if next != got.Status().NotBefore {
		t.Errorf("next is %v, want %v", next, got.Status().NotBefore)
	}
	c.advance(time.Hour)
	if next := advance(t, q, c.instant()); next != 0 {
		t.Errorf("something is due at %v", next)
	}
	heads, err := headsOf(q, 1)
	if err != nil || len(heads) != 1 || heads[0].Attempt != 2 || heads[0].Since < got.Status().NotBefore {
		t.Errorf("heads %+v %v", heads, err)
	}
}

func TestCancelOfAPendingTaskSurvivesACrash(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	seq := submit(t, q, spec("a"))[0].Seq
	apply(t, q, seq, task.Event{Kind: task.EventCancelAsked, By: "me"})
	if heads, err := headsOf(q, 1); err != nil || len(heads) != 0 {
		t.Errorf("it may still be placed: %+v %v", heads, err)
	}
	advance(t, q, 1)
	if got := get(t, q, seq); got.State() != task.Cancelled {
		t.Errorf("it is %s", got.State())
	}
}

// TestGPUFailed: that a GPU has failed is in the log, among what happened to tasks, and
// stays there.
func TestGPUFailed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir})
	submit(t, q, spec("a"))
	if err := q.GPUFailed(t.Context(), "GPU-1", "lost: XID 79"); err != nil {
		t.Fatal(err)
	}
	submit(t, q, spec("b"))
	closeQueue(t, q)
	q = openQueue(t, queue.Options{Dir: dir})
	records, err := q.Records(1, 100)
	if err != nil || len(records) != 3 {
		t.Fatalf("%v, %v", records, err)
	}
	if r := records[1]; r.ID != "GPU-1" || r.Text != "lost: XID 79" || r.Seq != 0 || r.Ended() || r.EventType() != "gpu_unhealthy" || r.Index != 2 || r.At == 0 {
		t.Errorf("%+v", r)
	}
	if err := q.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
