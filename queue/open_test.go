package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/tryopen"
	"github.com/dspy-agent/dspy-agent/queue"
)

// TestDatabaseIsGone: CURRENT names a database that is not there. To make an
// empty one would look as if every task had been lost.
func TestDatabaseIsGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
	if err := os.Rename(filepath.Join(dir, "queue-000001.db"), filepath.Join(dir, "aside")); err != nil {
		t.Fatal(err)
	}
	_, err := queue.Open(context.Background(), queue.Options{Dir: dir})
	if err == nil {
		t.Fatal("a queue without its database was opened")
	}
	for _, part := range []string{filepath.Join(dir, "CURRENT"), "queue-000001.db", "not there", "backup"} {
		if msg := err.Error(); !strings.Contains(msg, part) {
			t.Errorf("%q lacks %q", msg, part)
		}
	}
	if err := os.Rename(filepath.Join(dir, "aside"), filepath.Join(dir, "queue-000001.db")); err != nil {
		t.Fatal(err)
	}
	openQueue(t, queue.Options{Dir: dir})
}

// clock is a time that tests move.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) instant() task.Instant   { return task.At(c.now()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// openQueue opens a queue the way every test does: when the test ends it is
// checked from end to end, and closed.
func openQueue(tb testing.TB, opts queue.Options) *queue.Queue {
	tb.Helper()
	if opts.Dir == "" {
		opts.Dir = tb.TempDir()
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.NewTextHandler(testWriter{tb}, nil))
	}
	q, err := queue.Open(context.Background(), opts)
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	tb.Cleanup(func() { closeQueue(tb, q) })
	return q
}

// closeQueue checks and closes a queue; closing twice is allowed.
func closeQueue(tb testing.TB, q *queue.Queue) {
	tb.Helper()
	if err := q.Check(context.Background()); err != nil && !errors.Is(err, queue.ErrClosed) {
		tb.Errorf("check: %v", err)
	}
	if err := q.Close(); err != nil {
		tb.Errorf("close: %v", err)
	}
}

type testWriter struct{ tb testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.tb.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

func spec(id string) *task.Spec {
	return &task.Spec{ID: id, Class: "cpu", Argv: []string{"true"}}
}

func submit(tb testing.TB, q *queue.Queue, specs ...*task.Spec) []task.Task {
	tb.Helper()
	answers, err := q.Submit(context.Background(), specs)
	if err != nil {
		tb.Fatalf("submit: %v", err)
	}
	tasks := make([]task.Task, len(answers))
	for i, a := range answers {
		if a.Err != nil {
			tb.Fatalf("submit %s: %v", specs[i].ID, a.Err)
		}
		tasks[i] = a.Task
	}
	return tasks
}

// apply applies events to the present attempt of one task; each has to be taken.
func apply(tb testing.TB, q *queue.Queue, seq task.Seq, events ...task.Event) task.Task {
	tb.Helper()
	t := get(tb, q, seq)
	for _, ev := range events {
		if ev.At == 0 {
			ev.At = task.At(time.Unix(1_700_000_000, 0))
		}
		ev.Attempt = t.Attempt()
		answers, err := q.Apply(context.Background(), []task.Change{{Seq: seq, Event: ev}})
		if err != nil {
			tb.Fatalf("apply %s: %v", ev.Kind, err)
		}
		if answers[0].Err != nil {
			tb.Fatalf("apply %s: %v", ev.Kind, answers[0].Err)
		}
		t = answers[0].Task
	}
	return t
}

// headsOf returns the first n ready tasks of every shape, in the order of the line.
func headsOf(q *queue.Queue, n int) (heads []scheduler.Head, err error) {
	seen := map[string]int{}
	err = q.Line(func(h scheduler.Head) scheduler.Verdict {
		heads = append(heads, h)
		if seen[h.Shape]++; seen[h.Shape] == n {
			return scheduler.Skip
		}
		return scheduler.More
	})
	return heads, err
}

func get(tb testing.TB, q *queue.Queue, seq task.Seq) task.Task {
	tb.Helper()
	t, err := q.Get(seq)
	if err != nil {
		tb.Fatalf("get %d: %v", seq, err)
	}
	return t
}

// advance calls Advance until there is nothing to do.
func advance(tb testing.TB, q *queue.Queue, now task.Instant) task.Instant {
	tb.Helper()
	for range 1_000_000 {
		next, more, err := q.Advance(context.Background(), now)
		if err != nil {
			tb.Fatalf("advance: %v", err)
		}
		if !more {
			return next
		}
	}
	tb.Fatal("advance never ends")
	return 0
}

// later is after everything that apply makes happen.
var later = task.At(time.Unix(1_700_000_001, 0))

var (
	placed    = task.Event{Kind: task.EventPlaced, Backend: "process", Lease: task.Lease{CPUMilli: 1000}}
	launched  = task.Event{Kind: task.EventLaunched, Handle: []byte("handle")}
	started   = task.Event{Kind: task.EventStarted}
	succeeded = task.Event{Kind: task.EventExited}
	failed    = task.Event{Kind: task.EventExited, Outcome: task.Outcome{ExitCode: 3}}
)

// numbered makes n specs with ids that sort in the order of submission.
func numbered(prefix string, from, n int) []*task.Spec {
	specs := make([]*task.Spec, n)
	for i := range specs {
		specs[i] = spec(fmt.Sprintf("%s-%09d", prefix, from+i))
	}
	return specs
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == tryopen.Arg {
		os.Exit(tryopen.Main(os.Args[2:]))
	}
	if childMain() {
		return
	}
	goleak.VerifyTestMain(m)
}
