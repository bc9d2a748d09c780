package engine_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/backendtest"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

func TestBackendDown(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.fake.SetDown("its machine is being moved")
		w.submit(job("a", `{}`))
		w.want("a", task.Pending)
		w.says("a", "backend fake is down", "its machine is being moved")
		w.pass(10 * time.Minute)
		w.want("a", task.Pending)
		w.fake.SetDown("")
		w.pass(3 * time.Second) // nobody tells the engine
		w.want("a", task.Succeeded)
	})
}

// TestBackendGoesDownBetween: it was up when the task was placed, and down when
// it was to be handed over.
func TestBackendGoesDownBetween(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.fake.FailLaunch(1, errors.New("broken pipe"))
		w.submit(job("a", `{"hang": true}`))
		w.fake.SetDown("it fell over")
		w.pass(10 * time.Minute)
		w.want("a", task.Assigned)
		w.says("a", "fake", "down", "it fell over")
		w.fake.SetDown("")
		w.pass(2 * time.Second)
		w.want("a", task.Running)
	})
}

// TestLeaseInDoubt: what is not known to be ours to do is not done, and is done as
// soon as it is. The log says it once.
func TestLeaseInDoubt(t *testing.T) {
	var log logBuffer
	inBubble(t, settings{log: &log}, func(w *world) {
		w.store.loseLease(errors.New("the file server does not answer"))
		w.submit(job("a", `{"hang": true}`))
		w.pass(time.Minute)
		w.want("a", task.Assigned)
		if n := w.careful[0].called("launch"); n != 0 {
			t.Errorf("Launch was called %d times by one that may not be the owner", n)
		}
		w.store.loseLease(nil)
		w.pass(2 * time.Second)
		w.want("a", task.Running)
		w.store.loseLease(errors.New("the file server does not answer"))
		w.cancel("a")
		w.pass(time.Minute)
		w.want("a", task.Stopping)
		w.store.loseLease(nil)
		w.pass(20 * time.Second)
		w.want("a", task.Cancelled)
		if n := log.count("still ours"); n != 2 {
			t.Errorf("it is said %d times, want 2:\n%s", n, log.text())
		}
	})
}

// TestLaunchFails: it is tried again, ever less often, however often the loop turns
// meanwhile.
func TestLaunchFails(t *testing.T) {
	var log logBuffer
	inBubble(t, settings{cpus: 8, log: &log}, func(w *world) {
		const fails = 5
		w.fake.FailLaunch(fails, errors.New("the network"))
		var specs []*task.Spec
		for i := range 8 {
			specs = append(specs, job(name("t", i), `{"run_ms": 3000}`))
		}
		w.submit(specs...)
		for range 30 * 10 { // 1 + 2 + 4 + 8 + 10 seconds
			w.turn()
			w.pass(100 * time.Millisecond)
		}
		for i := range 8 {
			w.want(name("t", i), task.Succeeded)
		}
		if n := w.careful[0].called("launch"); n != fails+1 {
			t.Errorf("%d calls of Launch, want %d", n, fails+1)
		}
		if fell, rose := log.count("step=launch", "the network"), log.count("step=launch", "does again"); fell != 1 || rose != 1 {
			t.Errorf("the log says %d times that it fails, and %d times that it works again:\n%s", fell, rose, log.text())
		}
	})
}

// TestStopFails: the same of a stop; one that fails does not hold up another.
func TestStopFails(t *testing.T) {
	var log logBuffer
	inBubble(t, settings{cpus: 8, log: &log}, func(w *world) {
		w.submit(job("deaf", `{"hang": true}`), job("hears", `{"hang": true}`))
		w.careful[0].deafen(w.get("deaf").Seq)
		w.cancel("deaf")
		for range 60 * 10 {
			w.turn()
			w.pass(100 * time.Millisecond)
		}
		w.want("deaf", task.Stopping)
		if n := w.careful[0].called("stop"); n < 5 || n > 10 {
			t.Errorf("%d calls of Stop within a minute", n)
		}
		w.cancel("hears")
		w.pass(task.DefaultGrace)
		w.want("hears", task.Cancelled)
		w.careful[0].deafen(0)
		w.pass(time.Minute)
		w.want("deaf", task.Cancelled)
		if fell, rose := log.count("step=stop", "level=WARN"), log.count("step=stop", "does again"); fell != 1 || rose != 1 {
			t.Errorf("the log says %d times that it fails, and %d times that it works again:\n%s", fell, rose, log.text())
		}
	})
}

// TestAskOfAnEngineThatEnds: who asks while it ends, or later, is answered at once.
func TestAskOfAnEngineThatEnds(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("a", `{"hang": true}`))
		w.store.breakApply(&task.Error{Code: task.CodeUnavailable, Message: "the last sync failed", Err: queue.ErrOutcomeUnknown})
		answers := make(chan error)
		for range 3 { // one has the loop's ear, the others wait for it
			go func() {
				_, err := w.engine.Cancel(context.Background(), w.get("a"), "uid 7", "")
				answers <- err
			}()
		}
		w.wait()
		w.stop()
		w.wait()
		go func() {
			_, _, err := w.engine.PauseClass(context.Background(), "c", "uid 7", "")
			answers <- err
		}()
		for range 4 {
			if err := <-answers; task.CodeOf(err) != task.CodeUnavailable {
				t.Errorf("an engine that has ended answers %v", err)
			}
		}
		w.store.breakApply(nil)
	})
}

// TestReportsThatAreLost come after all when the engine is started again.
func TestReportsThatAreLost(t *testing.T) {
	t.Parallel()
	for _, k := range []task.EventKind{task.EventLaunched, task.EventStarted, task.EventExited} {
		t.Run(k.String(), func(t *testing.T) {
			inBubble(t, settings{}, func(w *world) {
				w.fake.SetFaults(lose(k))
				w.submit(job("a", `{"run_ms": 100}`))
				w.pass(time.Minute)
				w.fake.SetFaults(backendtest.Faults{})
				w.restart()
				w.want("a", task.Succeeded)
				if known := w.fake.Known(); len(known) != 0 {
					t.Errorf("not forgotten: %v", known)
				}
			})
		})
	}
}

// TestReportsInDisorder: repeated, late and shuffled reports move nothing back,
// and once all have come everything has ended, once.
func TestReportsInDisorder(t *testing.T) {
	t.Parallel()
	for name0, faults := range map[string]backendtest.Faults{
		"repeated": {Repeat: 3},
		"late":     {Delay: 500 * time.Millisecond},
		"shuffled": {Shuffle: true, Repeat: 2},
		"all":      {Shuffle: true, Repeat: 2, Delay: 10 * time.Millisecond},
	} {
		t.Run(name0, func(t *testing.T) {
			inBubble(t, settings{cpus: 4}, func(w *world) {
				w.fake.SetFaults(faults)
				const n = 40
				for i := range n {
					w.submit(job(name("t", i), `{"run_ms": 20, "exit": 1}`, retries(i%2)))
				}
				for range 60 {
					w.pass(time.Second)
					w.fake.Repeat() // as a backend does that was cut off
				}
				for i := range n {
					if st := w.want(name("t", i), task.Failed); st.Attempt != 1+i%2 {
						t.Errorf("%s ended with attempt %d", name("t", i), st.Attempt)
					}
				}
				if got, want := len(w.records(task.EventExited)), n+n/2; got != want {
					t.Errorf("%d ends in the log, want %d", got, want)
				}
				if known := w.fake.Known(); len(known) != 0 {
					t.Errorf("not forgotten: %v", known)
				}
			})
		})
	}
}

func TestVanished(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("a", `{"hang": true}`), job("b", `{"hang": true}`, func(s *task.Spec) { s.OnLost = task.LostRetry }))
		w.fake.Vanish(w.get("a").Ref(), "the machine was started anew")
		w.fake.Vanish(w.get("b").Ref(), "the machine was started anew")
		w.wait()
		if st := w.want("a", task.Lost); st.Outcome.Class != task.Vanished || st.Outcome.Message != "the machine was started anew" {
			t.Errorf("outcome %+v", st.Outcome)
		}
		w.says("a", "lost", "the machine was started anew", "retry it")
		w.pass(2 * time.Second)
		if st := w.want("b", task.Running); st.Attempt != 2 {
			t.Errorf("attempt %d", st.Attempt)
		}
	})
}

// TestBackendLosesEverything: what ran is lost, what was only assigned begins.
func TestBackendLosesEverything(t *testing.T) {
	inBubble(t, settings{cpus: 3}, func(w *world) {
		w.submit(job("runs", `{"hang": true}`), job("waits", `{"hang": true, "wait": true}`))
		w.stop()
		w.fake.LoseAll()
		w.start()
		w.want("runs", task.Lost)
		w.want("waits", task.Assigned) // it was handed over again, and waits again
		w.fake.Begin(w.get("waits").Ref())
		w.wait()
		w.want("waits", task.Running)
	})
}

// TestNotes: the backend's word about a state is shown until the state changes.
func TestNotes(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.fake.SetFaults(lose(task.EventStarted))
		w.submit(job("a", `{"hang": true}`))
		w.fake.Note(w.get("a").Ref(), "two others are before it")
		w.wait()
		w.says("a", "two others are before it")
	})
}

// TestDiskFull: a commit that fails for a while loses no report, and nothing is
// forgotten before it is on disk.
func TestDiskFull(t *testing.T) {
	inBubble(t, settings{cpus: 4}, func(w *world) {
		w.submit(job("ends", `{"run_ms": 1000, "result": {"n": 3}}`), job("fails", `{"run_ms": 1000, "exit": 2}`), job("hangs", `{"hang": true}`))
		w.store.breakWith(diskFull())
		w.pass(time.Minute)
		w.want("ends", task.Running)
		w.want("fails", task.Running)
		if n := w.careful[0].called("forget"); n != 0 {
			t.Fatalf("the backend was told to forget %d times", n)
		}
		if w.store.refused < 10 || w.store.refused > 200 {
			t.Errorf("%d commits were tried within a minute", w.store.refused)
		}
		// A person is told, or waits no longer than they want to.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := w.engine.Cancel(ctx, w.get("hangs"), "uid 7", ""); err == nil {
			t.Error("a cancel that is not on disk was confirmed")
		}
		w.store.breakWith(nil)
		w.pass(10 * time.Second)
		w.want("ends", task.Succeeded)
		w.want("fails", task.Failed)
		if r, err := w.queue.Result(w.get("ends").Seq); err != nil || string(r) != `{"n": 3}` {
			t.Errorf("result %q, %v", r, err)
		}
		if known := w.fake.Known(); len(known) > 1 {
			t.Errorf("not forgotten: %v", known)
		}
		w.submit(job("next", `{}`))
		w.want("next", task.Succeeded)
	})
}

// TestOutcomesThatNobodyKnows: commits that are there, and of which the engine is not
// told so, are made again; what follows from them happens once.
func TestOutcomesThatNobodyKnows(t *testing.T) {
	var log logBuffer
	limited := map[string]engine.Class{"c": class("c", func(c *engine.Class) { c.Limit = time.Second })}
	inBubble(t, settings{cpus: 4, log: &log, classes: limited}, func(w *world) {
		w.store.mu.Lock()
		w.store.doubts = true
		w.store.mu.Unlock()
		w.submit(job("ends", `{"run_ms": 1500, "result": {"n": 3}}`), job("fails", `{"run_ms": 10, "exit": 2}`, retries(1)), job("hangs", `{"hang": true}`))
		w.pass(time.Minute)
		w.cancel("hangs")
		w.pass(task.DefaultGrace + time.Minute)
		w.want("ends", task.Succeeded)
		if st := w.want("fails", task.Failed); st.Attempt != 2 {
			t.Errorf("it failed with attempt %d", st.Attempt)
		}
		w.want("hangs", task.Cancelled)
		if began := w.began(); began != 4 {
			t.Errorf("%d attempts began", began)
		}
		if known := w.fake.Known(); len(known) != 0 {
			t.Errorf("not forgotten: %v", known)
		}
		for _, id := range []string{"ends", "hangs"} {
			if n := log.count("longer than is usual", "task="+id); n != 1 {
				t.Errorf("%s is over its limit, and that was told %d times", id, n)
			}
		}
	})
}

// TestStopWhileDiskFull: an engine can leave while it waits for the disk, and the
// next one hears of everything.
func TestStopWhileDiskFull(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("a", `{"run_ms": 1000}`))
		w.store.breakWith(diskFull())
		w.pass(time.Minute)
		w.stop()
		w.store.breakWith(nil)
		w.start()
		w.want("a", task.Succeeded)
	})
}

// TestStoreThatCannotBeTrusted ends the engine, with the reason.
func TestStoreThatCannotBeTrusted(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.stop()
		torn := errors.New("page 7 is torn")
		w.store.breakWith(torn)
		e := w.make()
		done := make(chan error, 1)
		go func() { done <- e.Run(context.Background()) }()
		w.wait()
		select {
		case err := <-done:
			if !errors.Is(err, torn) {
				t.Errorf("Run = %v", err)
			}
		default:
			t.Fatal("the engine goes on without a store")
		}
		w.store.breakWith(nil)
	})
}

// TestRestartInEveryState ends the engine in each state and starts another over
// the same store and backend. No attempt begins twice: the world's end checks.
func TestRestartInEveryState(t *testing.T) {
	t.Parallel()
	for _, s := range stages {
		t.Run(s.name, func(t *testing.T) {
			inBubble(t, settings{}, func(w *world) {
				s.reach(w)
				w.want("a", s.state)
				w.stop()
				w.pass(time.Minute)
				w.want("a", s.state)
				w.fake.SetFaults(backendtest.Faults{})
				w.fake.FailLaunch(0, nil)
				w.start()
				if s.state == task.Stopping {
					w.pass(task.DefaultGrace)
					w.want("a", task.Cancelled)
					return
				}
				w.fake.Begin(w.get("a").Ref()) // if it has not begun
				w.wait()
				w.want("a", task.Running)
				w.fake.Exit(w.get("a").Ref(), task.Outcome{}, nil)
				w.wait()
				w.want("a", task.Succeeded)
				if w.began() != 1 {
					t.Errorf("%d attempts began", w.began())
				}
			})
		})
	}
}

// TestEndsWhileAway: what ended while no engine ran is heard of by the next one.
func TestEndsWhileAway(t *testing.T) {
	inBubble(t, settings{cpus: 3}, func(w *world) {
		w.submit(job("good", `{"run_ms": 100}`), job("bad", `{"run_ms": 100, "exit": 1}`, retries(1)),
			job("slow", `{"run_ms": 100000}`, func(s *task.Spec) { s.Timeout = time.Second }),
			job("next", `{}`, after("good", task.AfterOK)))
		w.stop()
		w.pass(time.Minute)
		w.start()
		w.want("good", task.Succeeded)
		w.want("next", task.Succeeded)
		if st := w.want("slow", task.Failed); st.Outcome.Class != task.Timeout {
			t.Errorf("outcome %+v", st.Outcome)
		}
		w.pass(time.Minute)
		if st := w.want("bad", task.Failed); st.Attempt != 2 {
			t.Errorf("attempt %d", st.Attempt)
		}
	})
}

// TestCancelWhileAway: a wish that was stored, and no more, is carried out by the
// next engine, in whatever state it finds the task.
func TestCancelWhileAway(t *testing.T) {
	t.Parallel()
	for _, s := range stages[:len(stages)-1] {
		t.Run(s.name, func(t *testing.T) {
			inBubble(t, settings{}, func(w *world) {
				s.reach(w)
				w.stop()
				_, err := w.queue.Apply(context.Background(), []task.Change{{
					Seq: w.get("a").Seq, Event: task.Event{Kind: task.EventCancelAsked, At: task.At(time.Now()), By: "uid 7"},
				}})
				must(t, err)
				w.fake.SetFaults(backendtest.Faults{})
				w.fake.FailLaunch(0, nil)
				w.start()
				w.pass(task.DefaultGrace)
				w.want("a", task.Cancelled)
			})
		})
	}
}

// TestWishSurvivesTrouble: recovery finds a wish, and the disk is full just then.
func TestWishSurvivesTrouble(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("a", `{"hang": true}`))
		w.stop()
		_, err := w.queue.Apply(context.Background(), []task.Change{{
			Seq: w.get("a").Seq, Event: task.Event{Kind: task.EventCancelAsked, At: task.At(time.Now()), By: "uid 7"},
		}})
		must(t, err)
		w.store.breakHeads(task.Errorf(task.CodeUnavailable, "not now"))
		w.start()
		w.pass(10 * time.Second)
		w.store.breakHeads(nil)
		w.pass(10 * time.Second)
		w.want("a", task.Cancelled)
	})
}
