package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/backendtest"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// busyStore is a store in memory with many active tasks: what a round costs over
// it is what the engine costs.
type busyStore struct {
	active []task.Task
	next   scheduler.Head // always the first of the line
	tasks  map[task.Seq]task.Task
}

var _ engine.Store = (*busyStore)(nil)

func newBusyStore(tb testing.TB, n int) *busyStore {
	tb.Helper()
	s := &busyStore{tasks: map[task.Seq]task.Task{}}
	for i := range n {
		t := task.New(task.Seq(i+1), &task.Spec{ID: fmt.Sprint(i), Class: "c", Argv: []string{`{"hang": true}`}}, 0)
		for _, k := range []task.EventKind{task.EventPlaced, task.EventLaunched, task.EventStarted} {
			var err error
			t, err = task.Apply(t, task.Event{Kind: k, At: 1, Attempt: 1, Backend: "fake", Lease: task.Lease{CPUMilli: 1000}})
			must(tb, err)
		}
		s.active = append(s.active, t)
		s.tasks[t.Seq] = t
	}
	return s
}

func (s *busyStore) Active() ([]task.Task, error) { return s.active, nil }

func (s *busyStore) ConfirmLease() error { return nil }

func (s *busyStore) Get(seq task.Seq) (task.Task, error) { return s.tasks[seq], nil }

func (s *busyStore) Advance(context.Context, task.Instant) (task.Instant, bool, error) {
	return 0, false, nil
}

func (s *busyStore) Position(task.Seq) (int, bool, error) { return 0, false, nil }

func (s *busyStore) Images() ([]string, uint64) { return nil, 0 }

func (s *busyStore) Least() map[string]scheduler.Usage {
	return map[string]scheduler.Usage{"c": {CPUMilli: 1000}}
}

func (s *busyStore) Head(string) (scheduler.Head, bool, error) { return s.next, true, nil }

func (s *busyStore) Pause(context.Context, string, task.Pause) (task.Pause, bool, error) {
	return task.Pause{}, false, errors.New("nothing is paused here")
}

func (s *busyStore) Resume(context.Context, string) (task.Pause, bool, error) {
	return task.Pause{}, false, nil
}

func (s *busyStore) Paused() map[string]task.Pause { return nil }

func (s *busyStore) Line(visit func(scheduler.Head) scheduler.Verdict) error {
	visit(s.next)
	return nil
}

// Apply moves one that runs a step that changes nothing about it, so that the
// next round finds what this one found.
func (s *busyStore) Apply(_ context.Context, changes []task.Change) ([]task.Applied, error) {
	out := make([]task.Applied, len(changes))
	for i, c := range changes {
		out[i] = task.Applied{Task: s.tasks[c.Seq], From: task.Pending, Err: task.ErrStale}
	}
	return out, nil
}

// busyEngine is an engine whose backend elsewhere has n tasks, and that finds
// one to place in every round.
func busyEngine(tb testing.TB, n int) *engine.Engine {
	tb.Helper()
	s := newBusyStore(tb, n)
	seq := task.Seq(n + 1)
	spec := &task.Spec{ID: "next", Class: "c", Argv: []string{`{}`}}
	s.tasks[seq] = task.New(seq, spec, 0)
	s.next = scheduler.Head{Seq: seq, ID: spec.ID, Attempt: 1, Class: "c", Shape: spec.Shape()}
	e, err := engine.New(engine.Options{
		Store: s, Backends: []engine.Registration{{Backend: backendtest.NewFake(), NoImage: true}},
		Classes: map[string]engine.Class{"c": class("c")}, Capacity: scheduler.Capacity{CPUMilli: 2000},
		Wake: make(chan struct{}), Logger: slog.New(slog.DiscardHandler),
	})
	must(tb, err)
	must(tb, e.Recover())
	return e
}

// BenchmarkRound is what one turn of the loop costs with so many tasks in the
// hands of a backend elsewhere.
func BenchmarkRound(b *testing.B) {
	for _, n := range []int{10, 10_000, 100_000} {
		b.Run(fmt.Sprintf("active=%d", n), func(b *testing.B) {
			e := busyEngine(b, n)
			for b.Loop() {
				must(b, e.Round(context.Background()))
			}
		})
	}
}

// TestRoundLooksAtWhatStarts: with four hundred kinds of tasks waiting, the end of
// one has the engine look at the one that starts in its place, and no further.
func TestRoundLooksAtWhatStarts(t *testing.T) {
	inBubble(t, settings{cpus: 1}, func(w *world) {
		var specs []*task.Spec
		for i := range 400 {
			specs = append(specs, job(name("t", i), `{"run_ms": 1000}`, func(s *task.Spec) { s.Needs = []string{name("need", i)} }))
		}
		w.submit(specs...)
		w.store.looked.Store(0)
		w.pass(10*time.Second + time.Millisecond)
		w.want("t-9", task.Succeeded)
		w.want("t-10", task.Running)
		if n := w.store.looked.Load(); n > 20 {
			t.Errorf("ten tasks have started, and %d heads were looked at", n)
		}
	})
}

// TestRoundDoesNotGrow: a round with ten thousand active tasks costs what one
// with ten does. It counts allocations, since time depends on the machine.
func TestRoundDoesNotGrow(t *testing.T) {
	few, many := busyEngine(t, 10), busyEngine(t, 10_000)
	cost := func(e *engine.Engine) float64 {
		return testing.AllocsPerRun(20, func() { must(t, e.Round(context.Background())) })
	}
	if a, b := cost(few), cost(many); b > a+5 {
		t.Errorf("a round with 10 active tasks makes %.0f allocations, with 10,000 %.0f", a, b)
	}
}
