package engine_test

import (
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestABurstOfShortTasksPromisesNothing: after a thousand tasks that were over at
// once come long ones. They wait in the queue, where a priority counts and why
// knows the reason, and not in the backend's line.
func TestABurstOfShortTasksPromisesNothing(t *testing.T) {
	short := func(c *engine.Class) { c.Short = true }
	inBubble(t, settings{classes: map[string]engine.Class{"c": class("c", short)}}, func(w *world) {
		for i := range 300 {
			w.submit(job(name("quick", i), `{"run_ms": 1}`))
		}
		w.pass(time.Second)
		w.want(name("quick", 299), task.Succeeded)
		for i := range 20 {
			w.submit(job(name("long", i), `{"run_ms": 60000}`))
		}
		w.submit(job("urgent", `{"run_ms": 1}`, func(s *task.Spec) { s.Priority = 100 }))
		w.want("long-1", task.Running)
		w.want("long-2", task.Pending)
		w.says("urgent", "2 of 2 CPUs")
		w.pass(61 * time.Second)
		w.want("urgent", task.Succeeded)
	})
}
