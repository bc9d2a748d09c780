package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// BenchmarkDrainOfNothing measures a drain with nothing to do, as cron starts one every
// minute: beside a queue that keeps so many ended tasks. Goal: p50 under 50 ms.
func BenchmarkDrainOfNothing(b *testing.B) {
	for _, kept := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("kept=%d", kept), func(b *testing.B) {
			const samples = 50
			w := newWorld(b, binaries.plain)
			w.keepEnded(kept)
			var times []time.Duration
			for b.Loop() {
				for range samples {
					began := time.Now()
					if said := w.dspyOK("drain"); said != "" {
						b.Fatalf("it had something to do: %s", said)
					}
					times = append(times, time.Since(began))
				}
			}
			slices.Sort(times)
			b.ReportMetric(milliseconds(percentile(times, 50)), "p50-ms")
			b.ReportMetric(milliseconds(percentile(times, 99)), "p99-ms")
		})
	}
}

// keepEnded makes a queue in which so many tasks have ended.
func (w *world) keepEnded(n int) {
	w.Helper()
	ctx := context.Background()
	q, err := queue.Open(ctx, queue.Options{Dir: w.queueDir})
	if err != nil {
		w.Fatal(err)
	}
	for from := 0; from < n; from += 1000 {
		var specs []*task.Spec
		for i := from; i < min(n, from+1000); i++ {
			specs = append(specs, &task.Spec{ID: fmt.Sprint("t", i), Class: "cpu_short", Argv: []string{"/bin/true"}})
		}
		stored, err := q.Submit(ctx, specs)
		if err != nil {
			w.Fatal(err)
		}
		var changes []task.Change
		for _, s := range stored {
			for _, kind := range []task.EventKind{task.EventPlaced, task.EventLaunched, task.EventStarted, task.EventExited} {
				changes = append(changes, task.Change{Seq: s.Task.Seq, Event: task.Event{Kind: kind, At: task.At(time.Now()), Attempt: 1}})
			}
		}
		applied, err := q.Apply(ctx, changes)
		if err != nil {
			w.Fatal(err)
		}
		for _, a := range applied {
			if a.Err != nil {
				w.Fatal(a.Err)
			}
		}
	}
	if err := q.Close(); err != nil {
		w.Fatal(err)
	}
}
