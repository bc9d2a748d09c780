package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/backendtest"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// lose holds back the reports of one kind.
func lose(kinds ...task.EventKind) backendtest.Faults {
	return backendtest.Faults{Lose: func(c task.Change) bool {
		return slices.Contains(kinds, c.Event.Kind)
	}}
}

// stages bring a task "a" into every state that a backend has part in, and say
// what its backend has seen of it.
var stages = []struct {
	name  string
	state task.State
	reach func(w *world)
	begun bool
}{
	{"assigned and not handed over", task.Assigned, func(w *world) {
		w.fake.FailLaunch(1000, errors.New("no connection"))
		w.submit(job("a", `{"hang": true}`))
	}, false},
	{"assigned and handed over", task.Assigned, func(w *world) { w.submit(job("a", `{"hang": true, "wait": true}`)) }, false},
	{"assigned and begun", task.Assigned, func(w *world) {
		w.fake.SetFaults(lose(task.EventLaunched, task.EventStarted))
		w.submit(job("a", `{"hang": true}`))
	}, true},
	{"starting", task.Starting, func(w *world) {
		w.fake.SetFaults(lose(task.EventStarted))
		w.submit(job("a", `{"hang": true}`))
	}, true},
	{"running", task.Running, func(w *world) { w.submit(job("a", `{"hang": true}`)) }, true},
	{"stopping", task.Stopping, func(w *world) {
		w.submit(job("a", `{"hang": true, "deaf": true}`))
		w.cancel("a")
	}, true},
}

func TestCancelInEveryState(t *testing.T) {
	t.Parallel()
	for _, s := range stages {
		t.Run(s.name, func(t *testing.T) {
			inBubble(t, settings{}, func(w *world) {
				s.reach(w)
				w.want("a", s.state)
				got := w.cancel("a")
				// It may be gone before the answer is read.
				if got.State() != task.Stopping && got.State() != task.Cancelled || got.Status().Cancel == nil {
					t.Errorf("Cancel answers with %s, %+v", got.State(), got.Status().Cancel)
				}
				w.pass(task.DefaultGrace)
				st := w.want("a", task.Cancelled)
				if st.Outcome.Message != "cancelled by uid 7: no more use" {
					t.Errorf("outcome %+v", st.Outcome)
				}
				if got := w.began() == 1; got != s.begun {
					t.Errorf("it began: %v, want %v", got, s.begun)
				}
				if st.Lease.CPUMilli != 0 {
					t.Errorf("it still holds %+v", st.Lease)
				}
				w.cancel("a") // asking again is no error
				w.pass(time.Minute)
				w.want("a", task.Cancelled)
				if known := w.fake.Known(); len(known) != 0 {
					t.Errorf("not forgotten: %v", known)
				}
			})
		})
	}
}

func TestCancelPending(t *testing.T) {
	inBubble(t, settings{cpus: 1}, func(w *world) {
		w.submit(job("first", `{"hang": true}`), job("in-line", `{}`), job("blocked", `{}`, after("first", task.AfterAny)),
			job("behind", `{}`, after("in-line", task.AfterOK)))
		for _, id := range []string{"in-line", "blocked"} {
			if got := w.cancel(id); got.State() != task.Cancelled {
				t.Errorf("Cancel of %s answers with %s", id, got.State())
			}
		}
		if st := w.want("behind", task.Failed); st.Outcome.Class != task.DependencyFailed {
			t.Errorf("outcome %+v", st.Outcome)
		}
		w.cancel("first")
		w.want("first", task.Cancelled)
		w.pass(time.Minute)
		if w.began() != 1 || w.careful[0].called("stop") != 1 {
			t.Errorf("%d began, %d were stopped; want one each", w.began(), w.careful[0].called("stop"))
		}
	})
}

func TestCancelDuringBackoff(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("a", `{"exit": 1}`, retries(5)))
		w.want("a", task.Pending)
		w.cancel("a")
		w.want("a", task.Cancelled)
		w.pass(time.Hour)
		if w.began() != 1 {
			t.Errorf("%d attempts began after the cancel", w.began())
		}
	})
}

func TestCancelOfWhatHasEnded(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("good", `{}`), job("bad", `{"exit": 1}`))
		for id, word := range map[string]string{"good": "succeeded", "bad": "failed"} {
			_, err := w.engine.Cancel(context.Background(), w.get(id), "uid 7", "")
			want := "task " + id + " has already ended: it " + word
			if err == nil || task.CodeOf(err) != task.CodeConflict || err.Error() != want {
				t.Errorf("Cancel(%s) = %v, want %q", id, err, want)
			}
		}
	})
}

// TestCancelIsNotRetried: once somebody has asked for its end, no failure of a
// task leads to another attempt.
func TestCancelIsNotRetried(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("a", `{"hang": true, "deaf": true}`, retries(5)))
		w.cancel("a")
		w.fake.Exit(w.get("a").Ref(), task.Outcome{ExitCode: 1}, nil)
		w.pass(time.Hour)
		if st := w.want("a", task.Failed); st.Attempt != 1 {
			t.Errorf("attempt %d", st.Attempt)
		}
	})
}

// TestResultBeforeStopWins: the program had ended when the stop came, though
// nobody had heard of it yet.
func TestResultBeforeStopWins(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("a", `{"hang": true}`))
		w.fake.SetFaults(backendtest.Faults{Delay: 100 * time.Millisecond})
		w.fake.Exit(w.get("a").Ref(), task.Outcome{}, task.Result(`{"n": 2}`))
		w.pass(50 * time.Millisecond)
		w.cancel("a")
		w.want("a", task.Stopping)
		w.pass(50 * time.Millisecond)
		w.want("a", task.Succeeded)
		if r, err := w.queue.Result(w.get("a").Seq); err != nil || string(r) != `{"n": 2}` {
			t.Errorf("result %q, %v", r, err)
		}
	})
}

// TestCancelOfWhatCouldNotStart: its backend had failed to start it when the stop
// came, though nobody had heard of it yet.
func TestCancelOfWhatCouldNotStart(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.fake.SetFaults(backendtest.Faults{Delay: 100 * time.Millisecond})
		w.submit(job("a", `{"fail": "no memory"}`))
		w.cancel("a")
		w.want("a", task.Stopping)
		w.pass(200 * time.Millisecond)
		w.want("a", task.Cancelled)
		if known := w.fake.Known(); len(known) != 0 {
			t.Errorf("not forgotten: %v", known)
		}
	})
}

// TestStopIsRepeated: a stop that is not heard of is told again, until the end.
func TestStopIsRepeated(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("a", `{"hang": true}`))
		w.fake.SetFaults(lose(task.EventStopped))
		w.cancel("a")
		w.pass(5 * time.Second)
		w.want("a", task.Stopping)
		if n := w.careful[0].called("stop"); n != 1 {
			t.Errorf("told %d times within five seconds", n)
		}
		w.fake.SetFaults(backendtest.Faults{})
		w.pass(10 * time.Second)
		w.want("a", task.Cancelled)
		n := w.careful[0].called("stop")
		w.pass(time.Hour)
		if again := w.careful[0].called("stop"); again != n {
			t.Errorf("told %d times after it was gone", again-n)
		}
	})
}

// TestRetryByPerson gives what has ended badly another attempt, with fresh budgets.
func TestRetryByPerson(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("failed", `{"run_ms": 10, "exit": 1}`, retries(1)), job("cancelled", `{"hang": true}`))
		w.pass(10 * time.Millisecond)
		w.cancel("cancelled")
		w.pass(2 * time.Second)
		if st := w.want("failed", task.Failed); st.Attempt != 2 {
			t.Fatalf("attempt %d", st.Attempt)
		}
		for _, id := range []string{"failed", "cancelled"} {
			if got, err := w.engine.Retry(context.Background(), w.get(id), "uid 7"); err != nil || got.State() != task.Pending {
				t.Errorf("Retry(%s) = %s, %v", id, got.State(), err)
			}
		}
		w.wait()
		w.want("cancelled", task.Running)
		w.want("failed", task.Running) // at once, without a backoff
		_, err := w.engine.Retry(context.Background(), w.get("failed"), "uid 7")
		if task.CodeOf(err) != task.CodeConflict {
			t.Errorf("Retry of a running task: %v", err)
		}
		w.pass(2 * time.Second)
		if st := w.want("failed", task.Failed); st.Attempt != 4 {
			t.Errorf("attempt %d, want 4: one more by hand, and its retry", st.Attempt)
		}
		w.fake.Exit(w.get("cancelled").Ref(), task.Outcome{}, nil)
		w.wait()
		w.want("cancelled", task.Succeeded)
		if _, err := w.engine.Retry(context.Background(), w.get("cancelled"), "uid 7"); task.CodeOf(err) != task.CodeConflict {
			t.Errorf("Retry of a task that succeeded: %v", err)
		}
	})
}

func TestRetryOfWhatWaitedInVain(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("dep", `{"exit": 1}`), job("a", `{}`, after("dep", task.AfterOK)))
		w.want("a", task.Failed)
		_, err := w.engine.Retry(context.Background(), w.get("a"), "uid 7")
		if task.CodeOf(err) != task.CodeConflict {
			t.Fatalf("Retry = %v", err)
		}
		msg := err.Error()
		for _, part := range []string{"task a", "waits for dep to succeed", "dep failed", "exit code 1", "retry that one first"} {
			if !strings.Contains(msg, part) {
				t.Errorf("%q lacks %q", msg, part)
			}
		}
		if st := w.want("a", task.Failed); st.Attempt != 1 || st.Outcome.Class != task.DependencyFailed {
			t.Errorf("attempt %d: %+v", st.Attempt, st.Outcome)
		}
		w.says("a", "waits for dep to succeed, but dep failed", "retry dep first")
		_, err = w.engine.Retry(context.Background(), w.get("dep"), "uid 7")
		must(t, err)
		w.says("a", "dep failed", "no longer so: retry it")
		_, err = w.engine.Retry(context.Background(), w.get("a"), "uid 7")
		must(t, err)
	})
}

func TestUnknownTask(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		ghost := task.New(99, job("ghost", `{}`), 0)
		if _, err := w.engine.Cancel(context.Background(), ghost, "uid 7", ""); task.CodeOf(err) != task.CodeNotFound {
			t.Errorf("Cancel = %v", err)
		}
		if _, err := w.engine.Retry(context.Background(), ghost, "uid 7"); task.CodeOf(err) != task.CodeNotFound {
			t.Errorf("Retry = %v", err)
		}
	})
}
