package engine_test

import (
	"context"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestEndOfRemovedTask: a backend that was not told to forget an end, and tells
// of it after retention has removed the task, is told then.
func TestEndOfRemovedTask(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.careful[0].keeps.Store(true)
		w.submit(job("a", `{}`))
		w.want("a", task.Succeeded)
		w.stop()
		w.pass(30 * 24 * time.Hour)
		removed, _, err := w.queue.Expire(context.Background(), task.At(time.Now()))
		must(t, err)
		if len(removed) != 1 || len(w.fake.Known()) != 1 {
			t.Fatalf("removed %v, and the backend knows %v", removed, w.fake.Known())
		}
		w.careful[0].keeps.Store(false)
		w.start()
		w.pass(time.Minute)
		if known := w.fake.Known(); len(known) != 0 {
			t.Errorf("not forgotten: %v", known)
		}
	})
}

// TestUnreadablePayload: a task that cannot be read to be started ends, and says
// why; its place is given to the next.
func TestUnreadablePayload(t *testing.T) {
	inBubble(t, settings{cpus: 1}, func(w *world) {
		w.submit(job("first", `{"run_ms": 1000}`), job("bad", `{}`, retries(3)), job("next", `{}`))
		w.store.damage(w.get("bad").Seq, false)
		w.pass(time.Minute)
		if st := w.want("bad", task.Failed); st.Outcome.Class != task.Damaged || st.Attempt != 1 {
			t.Errorf("attempt %d: %+v", st.Attempt, st.Outcome)
		}
		w.says("bad", "damaged", "submit the work again")
		w.want("next", task.Succeeded)
	})
}

// TestUnreadableHead: the place that was meant for a task that cannot be moved is
// given to the next at once.
func TestUnreadableHead(t *testing.T) {
	inBubble(t, settings{cpus: 1}, func(w *world) {
		w.stop()
		w.submit(job("bad", `{}`), job("next", `{}`))
		w.store.damage(w.get("bad").Seq, true)
		w.start()
		w.want("bad", task.Pending)
		w.want("next", task.Succeeded)
	})
}

// TestUnreadableEnd: the end of a task that cannot be read any more frees its
// place, and is kept by its backend.
func TestUnreadableEnd(t *testing.T) {
	inBubble(t, settings{cpus: 1}, func(w *world) {
		w.submit(job("bad", `{"run_ms": 1000}`), job("next", `{}`), job("waits", `{}`, after("bad", task.AfterAny)))
		bad := w.get("bad")
		w.store.damage(bad.Seq, true)
		w.says("waits", "waiting for bad to end", "damaged")
		w.pass(time.Minute)
		w.want("next", task.Succeeded)
		if known := w.fake.Known(); len(known) != 1 || known[0] != bad.Ref() {
			t.Errorf("the backend knows %v", known)
		}
	})
}
