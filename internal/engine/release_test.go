package engine_test

import (
	"context"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestRelease: a held task starts when it is let go, and not before.
func TestRelease(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		ctx := context.Background()
		w.submit(job("runs", `{"hang": true}`), job("blocks", `{"hang": true}`), job("held", `{"run_ms": 10}`))
		held := w.get("held")
		if _, err := w.queue.Apply(ctx, []task.Change{{Seq: held.Seq, Event: task.Event{Kind: task.EventHeld, Attempt: 1, Text: "restored"}}}); err != nil {
			t.Fatal(err)
		}
		w.cancel("runs")
		w.pass(time.Minute)
		w.want("held", task.Pending)
		for i := range 2 {
			now, already, err := w.engine.Release(ctx, held, "uid 7")
			if err != nil || already != (i == 1) || now.Status().Held != "" {
				t.Errorf("release %d: already %v, held %q (%v)", i, already, now.Status().Held, err)
			}
		}
		w.pass(time.Minute)
		w.want("held", task.Succeeded)
		if _, _, err := w.engine.Release(ctx, w.get("held"), "uid 7"); task.CodeOf(err) != task.CodeConflict {
			t.Errorf("released after its end: %v", err)
		}
	})
}
