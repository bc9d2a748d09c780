package engine_test

import (
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// quietly counts what the engine tells of its quiet.
type quietly struct {
	told int
	next task.Instant
}

func (q *quietly) note(next task.Instant) { q.told, q.next = q.told+1, next }

// quiet says whether the engine is quiet after one more turn of its loop.
func (w *world) isQuiet(q *quietly) bool {
	w.Helper()
	before := q.told
	w.turn()
	w.wait()
	return q.told > before
}

func shut(why string) func(*engine.Class) { return func(c *engine.Class) { c.Shut = why } }

// Nothing waits and nothing runs: that is quiet. What runs, is being started, or will
// be tried again is not, though the latter is told with its time.
func TestQuiet(t *testing.T) {
	var q quietly
	inBubble(t, settings{quiet: q.note}, func(w *world) {
		if !w.isQuiet(&q) || q.next != 0 {
			t.Fatalf("an empty queue is not quiet: %+v", q)
		}
		w.submit(job("runs", `{"hang": true}`))
		if w.want("runs", task.Running); w.isQuiet(&q) {
			t.Error("quiet while a task runs")
		}
		w.submit(job("waits", `{}`, after("runs", task.AfterAny)))
		w.cancel("runs")
		w.pass(time.Minute)
		w.want("waits", task.Succeeded)
		if !w.isQuiet(&q) {
			t.Error("all have ended, and it is not quiet")
		}
		w.submit(job("again", `{"exit": 1}`, retries(1)))
		if !w.isQuiet(&q) || q.next == 0 {
			t.Errorf("one will be tried again, which is not told: %+v", q)
		}
	})
}

// A class that is shut waits, says why, and does not disturb the quiet. What of it was
// active before is followed.
func TestShutClass(t *testing.T) {
	var q quietly
	s := settings{quiet: q.note, classes: map[string]engine.Class{"c": class("c"), "d": class("d")}}
	inBubble(t, s, func(w *world) {
		w.submit(job("before", `{"hang": true}`, of("d")))
		w.want("before", task.Running)
		w.stop()
		w.classes = map[string]engine.Class{"c": class("c"), "d": class("d", shut("this run is for class c alone"))}
		w.start()
		w.submit(job("one", `{}`), job("two", `{}`, of("d")))
		w.want("one", task.Succeeded)
		w.want("two", task.Pending)
		w.says("two", "this run is for class c alone")
		if w.isQuiet(&q) {
			t.Error("quiet while a task of the class is active")
		}
		w.cancel("before")
		w.want("before", task.Cancelled)
		if !w.isQuiet(&q) {
			t.Error("only what is shut waits, and it is not quiet")
		}
	})
}

// As long as a backend is down it is quiet only if nothing waits that it might take.
func TestQuietWhileDown(t *testing.T) {
	var q quietly
	inBubble(t, settings{quiet: q.note}, func(w *world) {
		w.fake.SetDown("it is being started")
		if !w.isQuiet(&q) {
			t.Error("nothing waits, and it is not quiet")
		}
		w.submit(job("one", `{}`))
		if w.isQuiet(&q) {
			t.Error("quiet while a task waits for the backend")
		}
		w.fake.SetDown("")
		w.pass(time.Minute)
		if w.want("one", task.Succeeded); !w.isQuiet(&q) {
			t.Error("it has ended, and it is not quiet")
		}
	})
}
