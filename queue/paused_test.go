package queue_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

var aPause = task.Pause{At: later, By: "uid 7 (ada)", Reason: "the disk is moved"}

// TestPauseIsKept: it is on disk when the call returns, whoever opens the queue next.
func TestPauseIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir})
	if _, already, err := q.Pause(context.Background(), "cpu", aPause); err != nil || already {
		t.Fatal(already, err)
	}
	closeQueue(t, q)
	for _, readOnly := range []bool{true, false} {
		q = openQueue(t, queue.Options{Dir: dir, ReadOnly: readOnly})
		if got := q.Paused(); !maps.Equal(got, map[string]task.Pause{"cpu": aPause}) {
			t.Errorf("paused are %+v", got)
		}
		closeQueue(t, q)
	}
}

func TestPauseIsRefused(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	for class, reason := range map[string]string{"": "", "cpu": strings.Repeat("x", task.MaxReason+1)} {
		if _, _, err := q.Pause(context.Background(), class, task.Pause{Reason: reason}); task.CodeOf(err) != task.CodeInvalid {
			t.Errorf("class %q: %v", class, err)
		}
	}
	// What is not text is stored as text.
	if is, _, err := q.Pause(context.Background(), "cpu", task.Pause{Reason: "a\xffb"}); err != nil || is.Reason != "a\uFFFDb" {
		t.Errorf("%q, %v", is.Reason, err)
	}
}

// TestPauseOfOldDatabase: a database of a release that knew no pauses can have them,
// and what its tasks wait for is found out.
func TestPauseOfOldDatabase(t *testing.T) {
	t.Parallel()
	dir, _ := unpackOld(t)
	q := openQueue(t, queue.Options{Dir: dir})
	want := map[string]task.Waiting{"cpu": {Ready: 1, Blocked: 2, Delayed: 1, Held: 1}, "gpu": {Ready: 1}}
	if got := q.Waiting(); !maps.Equal(got, want) {
		t.Errorf("waiting %+v, want %+v", got, want)
	}
	if got := q.Paused(); len(got) != 0 {
		t.Errorf("paused are %+v", got)
	}
	if _, ok, err := q.Resume(context.Background(), "cpu"); ok || err != nil {
		t.Error(ok, err)
	}
	if _, _, err := q.Pause(context.Background(), "cpu", aPause); err != nil {
		t.Fatal(err)
	}
	closeQueue(t, q)
	var log strings.Builder
	q = openQueue(t, queue.Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if got := q.Waiting(); !maps.Equal(got, want) || strings.Contains(log.String(), "counted") {
		t.Errorf("opened again: waiting %+v, and it is said: %s", got, &log)
	}
	if got := q.Paused(); got["cpu"] != aPause {
		t.Errorf("paused are %+v", got)
	}
}

// TestDamagedPause: nobody knows any more why the class was paused, and it stays so
// until somebody resumes it.
func TestDamagedPause(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir})
	if _, _, err := q.Pause(context.Background(), "cpu", aPause); err != nil {
		t.Fatal(err)
	}
	closeQueue(t, q)
	edit(t, dir, func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("paused")).Put([]byte("cpu"), []byte("no record"))
	})
	q, err := queue.Open(context.Background(), queue.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Check(context.Background()); !errors.Is(err, task.ErrDamaged) {
		t.Errorf("check: %v", err)
	}
	if p, ok := q.Paused()["cpu"]; !ok || !strings.Contains(p.String(), "damaged") || len(q.Damaged()) != 1 {
		t.Errorf("paused: %v, %v; damaged are %v", ok, p, q.Damaged())
	}
	if _, ok, err := q.Resume(context.Background(), "cpu"); !ok || err != nil {
		t.Error(ok, err)
	}
	if err := errors.Join(q.Check(context.Background()), q.Close()); err != nil {
		t.Error(err)
	}
}

// TestLineSkipsClasses: of a class that is not wanted one task is shown, whatever the
// number of its shapes, and the others as if it were not there.
func TestLineSkipsClasses(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	var specs []*task.Spec
	for i := range 30 {
		s := ofShape(numbered("t", i, 1)[0].ID, i)
		s.Class = []string{"cpu", "gpu", "big"}[i%3]
		s.Resources.CPUMilli = int64(100 * (i + 1))
		s.Resources.MemBytes = int64(1000 * (30 - i))
		specs = append(specs, s)
	}
	tasks := submit(t, q, specs...)
	shown := map[string]int{}
	err := q.Line(func(h scheduler.Head) scheduler.Verdict {
		shown[h.Class]++
		if h.Class == "gpu" {
			return scheduler.SkipClass
		}
		return scheduler.Skip
	})
	if want := map[string]int{"cpu": 10, "gpu": 1, "big": 10}; err != nil || !maps.Equal(shown, want) {
		t.Errorf("shown %v (%v), want %v", shown, err, want)
	}
	want := map[string]scheduler.Usage{
		"cpu": {CPUMilli: 100, MemBytes: 3000}, "gpu": {CPUMilli: 200, MemBytes: 2000}, "big": {CPUMilli: 300, MemBytes: 1000},
	}
	if got := q.Least(); !maps.Equal(got, want) {
		t.Errorf("least %v, want %v", got, want)
	}
	if h, ok, err := q.Head(specs[4].Shape()); !ok || err != nil || h.ID != specs[4].ID {
		t.Errorf("head %+v %v %v", h, ok, err)
	}
	for _, tk := range tasks[:28] {
		apply(t, q, tk.Seq, placed)
	}
	want = map[string]scheduler.Usage{"gpu": {CPUMilli: 2900, MemBytes: 2000}, "big": {CPUMilli: 3000, MemBytes: 1000}}
	if got := q.Least(); !maps.Equal(got, want) {
		t.Errorf("with two left: least %v, want %v", got, want)
	}
	if _, ok, err := q.Head(specs[4].Shape()); ok || err != nil {
		t.Errorf("a shape of which nothing waits has a head (%v)", err)
	}
}
