package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

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

func (s *busyStore) Get(seq task.Seq) (task.Task, error) { return s.tasks[seq], nil }

func (s *busyStore) Advance(context.Context, task.Instant) (task.Instant, bool, error) {
	return 0, false, nil
}

func (s *busyStore) Heads(int) ([]scheduler.Head, error) {
	return []scheduler.Head{s.next}, nil
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
