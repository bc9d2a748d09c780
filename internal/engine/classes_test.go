package engine_test

import (
	"context"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func twoClasses() settings {
	return settings{cpus: 2, classes: map[string]engine.Class{
		"c": class("c"), "d": class("d"), "old": class("old", func(k *engine.Class) { k.Of = "c" }),
	}}
}

func (w *world) pause(class, reason string) (is task.Pause, already bool) {
	w.Helper()
	is, already, err := w.engine.PauseClass(context.Background(), class, "uid 7 (ada)", reason)
	must(w.TB, err)
	w.wait()
	return is, already
}

func (w *world) resume(class string) (ok bool) {
	w.Helper()
	_, ok, err := w.engine.ResumeClass(context.Background(), class, "uid 7 (ada)")
	must(w.TB, err)
	w.wait()
	return ok
}

// TestPauseStartsNothingNew: what runs goes on, what is submitted is accepted and
// waits, other classes go on; and a resume starts what waits at that moment.
func TestPauseStartsNothingNew(t *testing.T) {
	inBubble(t, twoClasses(), func(w *world) {
		w.submit(job("runs", `{"run_ms": 1000}`))
		w.pause("c", "the disk is moved")
		w.submit(job("waits", `{"run_ms": 1000}`), job("other", `{"run_ms": 1000}`, of("d")), job("named", `{}`, of("old")))
		w.want("runs", task.Running)
		w.want("other", task.Running)
		since := w.queue.Paused()["c"].At.Time().Format("2006-01-02 15:04:05 MST")
		for _, id := range []string{"waits", "named"} {
			w.want(id, task.Pending)
			w.says(id, "waiting: class "+w.get(id).Spec.Class+" is paused since "+since+" by uid 7 (ada): the disk is moved; resume with: dspy-agent resume "+w.get(id).Spec.Class)
		}
		w.pass(time.Hour)
		w.want("runs", task.Succeeded)
		w.want("other", task.Succeeded)
		w.want("waits", task.Pending)
		if !w.resume("c") {
			t.Error("it is said that the class was not paused")
		}
		w.want("waits", task.Running)
		w.want("named", task.Succeeded)
	})
}

// TestPauseTwice: the second one changes nothing and says what there is; nor does a
// resume of what is not paused.
func TestPauseTwice(t *testing.T) {
	inBubble(t, twoClasses(), func(w *world) {
		if w.resume("c") {
			t.Error("a class was resumed that was not paused")
		}
		first, already := w.pause("c", "one")
		w.pass(time.Minute)
		second, again := w.pause("c", "two")
		if already || !again || first != second || second.Reason != "one" || second.By != "uid 7 (ada)" {
			t.Errorf("%+v (%v), then %+v (%v)", first, already, second, again)
		}
	})
}

// TestPauseSurvives: a new engine over the same queue keeps to it.
func TestPauseSurvives(t *testing.T) {
	inBubble(t, twoClasses(), func(w *world) {
		w.pause("c", "")
		w.stop()
		w.submit(job("a", `{"run_ms": 1000}`))
		w.start()
		w.pass(time.Hour)
		w.want("a", task.Pending)
		w.resume("c")
		w.want("a", task.Running)
	})
}

// TestPauseNeedsTheDisk: a pause that cannot be stored does not hold, and says so.
func TestPauseNeedsTheDisk(t *testing.T) {
	inBubble(t, twoClasses(), func(w *world) {
		w.store.breakWith(diskFull())
		if _, _, err := w.engine.PauseClass(context.Background(), "c", "uid 7", ""); task.CodeOf(err) != task.CodeExhausted {
			t.Errorf("got %v", err)
		}
		w.store.breakWith(nil)
		w.submit(job("a", `{"run_ms": 1000}`))
		w.pass(2 * time.Second) // the loop comes back to a disk that was full
		w.want("a", task.Succeeded)
	})
}

// TestPauseGivesUp: whoever does not wait for the answer is not kept.
func TestPauseGivesUp(t *testing.T) {
	inBubble(t, twoClasses(), func(w *world) {
		w.stop()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, _, err := w.engine.PauseClass(ctx, "c", "uid 7", ""); err == nil {
			t.Error("an engine that does not run has paused a class")
		}
		w.start()
	})
}

// TestRecent counts what began and ended in the last minutes, and for how long it
// had waited.
func TestRecent(t *testing.T) {
	inBubble(t, settings{cpus: 1}, func(w *world) {
		for i := range 20 {
			w.submit(job(name("t", i), `{"run_ms": 1000}`))
		}
		w.submit(job("last", `{"run_ms": 1000, "exit": 1}`))
		w.pass(30 * time.Second)
		all, window := w.engine.Recent()
		got := all["c"]
		if got.Started != 21 || got.Ended != 21 || window != 30*time.Second {
			t.Errorf("%+v in %s", got, window)
		}
		if d := got.WaitP50; d < 8*time.Second || d > 12*time.Second {
			t.Errorf("half of them waited for %s at most, want about 10 s", d)
		}
		if d := got.WaitP95; d < 16*time.Second || d > 22*time.Second {
			t.Errorf("all but one of twenty waited for %s at most, want about 19 s", d)
		}
		w.pass(engine.RecentWindow)
		if all, window := w.engine.Recent(); all["c"] != (engine.Recent{}) || window > engine.RecentWindow || window < engine.RecentWindow-10*time.Second {
			t.Errorf("after the window: %+v in %s", all, window)
		}
	})
}

// TestExplainLooksAtFew: why a task waits is not told by looking at all that wait.
func TestExplainLooksAtFew(t *testing.T) {
	inBubble(t, settings{cpus: 1}, func(w *world) {
		w.submit(job("runs", `{"hang": true}`, func(s *task.Spec) { s.Resources.CPUMilli = 500 }))
		var specs []*task.Spec
		for i := range 1500 {
			specs = append(specs, job(name("t", i), `{}`, func(s *task.Spec) { s.Resources.CPUMilli = int64(600 + i) }))
		}
		specs = append(specs, job("last", `{}`, func(s *task.Spec) { s.Resources.CPUMilli = 550 }))
		w.submit(specs...)
		w.store.looked.Store(0)
		w.says("last", "0.6 CPUs", "0.5 of 1 CPU are in use")
		w.says("t-100", "0.7 CPUs", "0.5 of 1 CPU are in use")
		if n := w.store.looked.Load(); n > 4 {
			t.Errorf("%d heads were looked at", n)
		}
	})
}
