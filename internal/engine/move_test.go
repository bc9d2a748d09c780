package engine_test

import (
	"slices"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func TestPlaceRunEnd(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("a", `{"run_ms": 100, "result": {"n": 1}}`), job("b", `{"run_ms": 100, "exit": 3}`), job("c", `{"run_ms": 100}`))
		w.want("a", task.Running)
		w.want("b", task.Running)
		w.want("c", task.Pending)
		if w.began() != 2 {
			t.Fatalf("%d tasks began on two CPUs", w.began())
		}
		w.pass(100 * time.Millisecond)
		w.want("a", task.Succeeded)
		if st := w.want("b", task.Failed); st.Outcome.ExitCode != 3 || st.Outcome.Class != task.UserError || st.Outcome.Message == "" {
			t.Errorf("outcome %+v", st.Outcome)
		}
		w.want("c", task.Running) // in the place of one that ended
		if r, err := w.queue.Result(w.get("a").Seq); err != nil || string(r) != `{"n": 1}` {
			t.Errorf("result %q, %v", r, err)
		}
		w.pass(100 * time.Millisecond)
		w.want("c", task.Succeeded)
		if known := w.fake.Known(); len(known) != 0 {
			t.Errorf("the backend was not told to forget %v", known)
		}
	})
}

func TestRetryWithBackoff(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("a", `{"run_ms": 10, "exit": 1}`, retries(2)))
		w.pass(10 * time.Millisecond)
		if st := w.want("a", task.Pending); st.Attempt != 2 || len(st.Past) != 1 {
			t.Fatalf("after the first attempt: %+v", st)
		}
		w.says("a", "tried again in", "attempt 1", "exit code 1")
		w.pass(700 * time.Millisecond) // the shortest backoff is three quarters of a second
		w.want("a", task.Pending)
		w.pass(600 * time.Millisecond)
		if st := w.want("a", task.Pending); st.Attempt != 3 {
			t.Fatalf("attempt %d, want 3", st.Attempt)
		}
		w.pass(2600 * time.Millisecond) // twice as long
		if st := w.want("a", task.Failed); st.Attempt != 3 {
			t.Fatalf("attempt %d, want 3", st.Attempt)
		}
		w.pass(time.Hour)
		if w.began() != 3 {
			t.Errorf("%d attempts began, want 3", w.began())
		}
	})
}

func TestTroubleOfTheMachineIsTriedAgain(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("a", `{"fail": "no memory"}`))
		w.pass(time.Minute)
		w.want("a", task.Pending)
		w.pass(3 * time.Hour)
		if st := w.want("a", task.Failed); st.Attempt != 1+task.CouldNotStart.Budget(job("", "")) || st.Outcome.Message != "no memory" || st.Outcome.Class != task.CouldNotStart {
			t.Fatalf("attempt %d: %+v", st.Attempt, st.Outcome)
		}
		if w.began() != 0 {
			t.Errorf("%d attempts began", w.began())
		}
	})
}

func TestTimeLimit(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		limit := func(s *task.Spec) { s.Timeout = 100 * time.Millisecond }
		w.submit(job("once", `{"run_ms": 1000}`, limit), job("again", `{"run_ms": 1000}`, limit, retries(1)))
		w.pass(99 * time.Millisecond)
		w.want("once", task.Running)
		w.pass(time.Millisecond)
		if st := w.want("once", task.Failed); st.Outcome.Class != task.Timeout || st.Outcome.Message != "exceeded its time limit of 100ms" {
			t.Errorf("outcome %+v", st.Outcome)
		}
		if st := w.want("again", task.Pending); st.Attempt != 2 || st.Past[0].Outcome.Class != task.Timeout {
			t.Errorf("status %+v", st)
		}
		w.pass(2 * time.Second)
		w.want("again", task.Failed)
	})
}

func TestDependencies(t *testing.T) {
	inBubble(t, settings{cpus: 8}, func(w *world) {
		w.submit(job("good", `{"run_ms": 100}`), job("bad", `{"run_ms": 100, "exit": 1}`))
		for _, d := range []string{"good", "bad"} {
			for _, c := range []task.Condition{task.AfterOK, task.AfterAny, task.AfterNotOK} {
				w.submit(job(d+"-"+c.String(), `{}`, after(d, c)))
				w.says(d+"-"+c.String(), "waiting for "+d)
			}
		}
		w.pass(time.Second)
		for id, want := range map[string]task.State{
			"good-ok": task.Succeeded, "good-any": task.Succeeded, "good-notok": task.Failed,
			"bad-ok": task.Failed, "bad-any": task.Succeeded, "bad-notok": task.Succeeded,
		} {
			st := w.want(id, want)
			if want != task.Failed {
				continue
			}
			if st.Outcome.Class != task.DependencyFailed || st.Outcome.Message == "" || st.Attempt != 1 {
				t.Errorf("%s: attempt %d, %+v", id, st.Attempt, st.Outcome)
			}
		}
		if got := w.began(); got != 6 {
			t.Errorf("%d tasks began, want 6", got)
		}
	})
}

func TestChainOfDependencies(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		const n = 30
		for _, c := range []struct{ name, script string }{{"sound", `{"run_ms": 10}`}, {"broken", `{"run_ms": 10, "exit": 1}`}} {
			w.submit(job(name(c.name, 0), c.script))
			for i := 1; i < n; i++ {
				w.submit(job(name(c.name, i), `{"run_ms": 10}`, after(name(c.name, i-1), task.AfterOK)))
			}
		}
		w.pass(n * 10 * time.Millisecond)
		var want []string
		for i := range n {
			w.want(name("sound", i), task.Succeeded)
			w.want(name("broken", i), task.Failed)
			want = append(want, name("sound", i))
		}
		began := slices.DeleteFunc(w.records(task.EventStarted), func(id string) bool { return id == "broken-0" })
		if !slices.Equal(began, want) {
			t.Errorf("they ran in the order %v", began)
		}
	})
}

func TestManyWaitForOne(t *testing.T) {
	inBubble(t, settings{cpus: 64}, func(w *world) {
		w.submit(job("one", `{"run_ms": 10}`))
		var specs []*task.Spec
		for i := range 1200 { // more than one step of Advance releases
			specs = append(specs, job(name("t", i), `{}`, after("one", task.AfterOK)))
		}
		w.submit(specs...)
		w.pass(time.Second)
		for i := range specs {
			w.want(name("t", i), task.Succeeded)
		}
	})
}

func TestPriority(t *testing.T) {
	inBubble(t, settings{cpus: 1}, func(w *world) {
		w.submit(job("first", `{"run_ms": 100}`))
		w.submit(job("low", `{"run_ms": 10}`, priority(-1)), job("a", `{"run_ms": 10}`), job("b", `{"run_ms": 10}`),
			job("high", `{"run_ms": 10}`, priority(5)), job("highest", `{"run_ms": 10}`, priority(50)))
		w.pass(time.Second)
		if got, want := w.records(task.EventStarted), []string{"first", "highest", "high", "a", "b", "low"}; !slices.Equal(got, want) {
			t.Errorf("they ran in the order %v, want %v", got, want)
		}
	})
}

func TestClassLimits(t *testing.T) {
	classes := map[string]engine.Class{
		"two": class("two", parallel(2)), "three": class("three", parallel(3)),
	}
	inBubble(t, settings{cpus: 8, classes: classes}, func(w *world) {
		for i := range 5 {
			w.submit(job(name("two", i), `{"run_ms": 100}`, of("two")), job(name("three", i), `{"run_ms": 100}`, of("three")))
		}
		w.says("two-2", "limit of 2")
		w.says("two-4", "turn", "limit of 2")
		if n := len(w.fake.Running()); n != 5 {
			t.Fatalf("%d run, want 2 and 3", n)
		}
		for range 5 {
			w.pass(50 * time.Millisecond)
			counts := map[string]int{}
			for _, ref := range w.fake.Running() {
				tk, err := w.queue.Get(ref.Seq)
				must(w, err)
				counts[tk.Spec.Class]++
			}
			if counts["two"] > 2 || counts["three"] > 3 {
				t.Fatalf("running: %v", counts)
			}
		}
		w.pass(time.Second)
		for i := range 5 {
			w.want(name("two", i), task.Succeeded)
			w.want(name("three", i), task.Succeeded)
		}
	})
}

// TestUnknownClassWaits: a class that is gone from the configuration costs its
// tasks nothing but time, and the others not even that.
func TestUnknownClassWaits(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("a", `{}`, of("of-last-year")), job("x", `{}`, of("of-last-year")), job("b", `{}`))
		w.want("b", task.Succeeded)
		w.pass(time.Hour)
		w.want("a", task.Pending)
		w.says("a", "class of-last-year is not in the configuration", "add [classes.of-last-year]", "cancel")
		if waits, err := w.engine.Waits(10); err != nil || len(waits) != 1 || waits[w.get("a").Seq] == "" {
			w.Errorf("waits: %v, %v", waits, err)
		}
		if waits, err := w.engine.Waits(0); err != nil || len(waits) > 1 {
			w.Errorf("waits: %v, %v", waits, err)
		}
		w.cancel("x")
		w.want("x", task.Cancelled)
		w.stop()
		w.classes = map[string]engine.Class{"c": class("c"), "of-last-year": class("of-last-year")}
		w.start()
		w.want("a", task.Succeeded)
	})
}

func TestTwoBackends(t *testing.T) {
	classes := map[string]engine.Class{"c": class("c", func(c *engine.Class) { c.Backends = []string{"fake", "other"} })}
	inBubble(t, settings{cpus: 100, classes: classes, other: "other"}, func(w *world) {
		w.submit(job("first", `{"hang": true}`), job("chosen", `{"hang": true}`, on("other")))
		w.fake.SetDown("it rests")
		w.submit(job("elsewhere", `{"hang": true}`))
		for id, want := range map[string]string{"first": "fake", "chosen": "other", "elsewhere": "other"} {
			if st := w.want(id, task.Running); st.Backend != want {
				t.Errorf("%s runs on %s, want %s", id, st.Backend, want)
			}
		}
		w.fake.SetDown("")
		w.restart()
		for _, id := range []string{"first", "chosen", "elsewhere"} {
			w.want(id, task.Running)
			w.cancel(id)
			w.want(id, task.Cancelled)
		}
		if left := append(w.fake.Known(), w.second.Known()...); len(left) != 0 {
			t.Errorf("not forgotten: %v", left)
		}
		if w.second.Begun()[w.get("first").Ref()] != 0 || len(w.second.Begun()) != 2 {
			t.Errorf("on the second began %v", w.second.Begun())
		}
	})
}
