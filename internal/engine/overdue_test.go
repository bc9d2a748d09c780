package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestOverTheUsualLimit: an attempt that runs longer than its class's limit is told of
// once, by the log and by Explain, and goes on.
func TestOverTheUsualLimit(t *testing.T) {
	var log logBuffer
	limited := func(c *engine.Class) { c.Limit = time.Minute }
	inBubble(t, settings{cpus: 8, log: &log, classes: map[string]engine.Class{"c": class("c", limited), "d": class("d")}}, func(w *world) {
		const told = "longer than is usual"
		w.submit(job("long", `{"hang": true}`), job("quick", `{"run_ms": 1000}`), job("free", `{"hang": true}`, of("d")),
			job("own", `{"hang": true}`, func(s *task.Spec) { s.Timeout = time.Hour }))
		w.pass(30 * time.Second)
		w.submit(job("later", `{"run_ms": 65000, "exit": 1}`, retries(1)))
		w.pass(29 * time.Second)
		if n := log.count(told); n != 0 || strings.Contains(w.why("long"), "limit") {
			t.Fatalf("told %d times before the limit; %s", n, w.why("long"))
		}
		w.pass(2 * time.Second)
		w.want("long", task.Running)
		w.says("long", "running for 1m 1s", "over its class's usual limit of 1m")
		if all, long := log.count(told), log.count(told, "task=long", "attempt=1", "class=c", "limit=1m0s"); all != 1 || long != 1 {
			t.Fatalf("told %d times, and %d times of the one that is over the limit:\n%s", all, long, log.text())
		}
		w.pass(30 * time.Minute) // and never again, but of another attempt
		for _, c := range []struct {
			parts []string
			want  int
		}{
			{[]string{"task=long"}, 1},
			{[]string{"task=later", "attempt=1"}, 1},
			{[]string{"task=later", "attempt=2"}, 1},
			{nil, 3},
		} {
			if n := log.count(append(c.parts, told)...); n != c.want {
				t.Errorf("told %d times of %v, want %d", n, c.parts, c.want)
			}
		}
		for _, id := range []string{"free", "own"} {
			if why := w.why(id); strings.Contains(why, "limit") {
				t.Errorf("%s: %s", id, why)
			}
		}
		w.restart() // the next engine knows how long they have run
		w.pass(time.Second)
		if n := log.count(told, "task=long"); n != 2 {
			t.Errorf("told %d times after a restart, want once more", n)
		}
	})
}
