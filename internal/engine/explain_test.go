package engine_test

import (
	"context"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestExplainInEveryState: whatever the state, there is a sentence, and it names
// what matters.
func TestExplainInEveryState(t *testing.T) {
	t.Parallel()
	words := map[task.State][]string{
		task.Assigned: {"backend fake"}, task.Starting: {"backend fake"},
		task.Running: {"running for", "backend fake", "attempt 1"}, task.Stopping: {"being stopped", "uid 7"},
	}
	for _, s := range stages {
		t.Run(s.name, func(t *testing.T) {
			inBubble(t, settings{}, func(w *world) {
				s.reach(w)
				w.says("a", words[s.state]...)
			})
		})
	}
}

func TestExplainEnds(t *testing.T) {
	inBubble(t, settings{cpus: 8}, func(w *world) {
		w.submit(job("good", `{"run_ms": 2000}`), job("bad", `{"run_ms": 2000, "exit": 4}`), job("gone", `{"hang": true}`),
			job("lost", `{"hang": true}`), job("slow", `{"run_ms": 5000}`, func(s *task.Spec) { s.Timeout = time.Second }),
			job("vain", `{}`, after("bad", task.AfterOK)))
		w.cancel("gone")
		w.fake.Vanish(w.get("lost").Ref(), "the supervisor was killed")
		w.pass(3 * time.Second)
		w.says("good", "succeeded", "1.0s ago", "after 2.0s")
		w.says("bad", "failed", "1.0s ago", "exit code 4")
		w.says("gone", "cancelled", "uid 7", "no more use")
		w.says("lost", "lost", "the supervisor was killed", "--on-lost retry")
		w.says("slow", "failed", "time limit of 1s")
		w.says("vain", "failed", "bad")
	})
}

func TestExplainWaiting(t *testing.T) {
	inBubble(t, settings{cpus: 1}, func(w *world) {
		many := job("all", `{}`)
		for i := range 5 {
			w.submit(job(name("dep", i), `{"hang": true}`))
			many.After = append(many.After, task.Dep{ID: name("dep", i), When: task.AfterAny})
		}
		w.submit(many, job("either", `{}`, after("dep-0", task.AfterNotOK)), job("big", `{}`, func(s *task.Spec) { s.Resources.CPUMilli = 64000 }),
			job("third", `{}`))
		w.says("dep-1", "waits for room", "1 of 1 CPU")
		w.says("dep-2", "turn", "one task is before it in the line", "the first of its kind", "1 of 1 CPU")
		w.says("all", "waiting for dep-0 to end (it is running)", "dep-1", "and 2 more")
		w.says("either", "waiting for dep-0 to fail")
		w.says("big", "64 CPUs", "this machine has 1 CPU")
		_, err := w.queue.Apply(context.Background(), []task.Change{{
			Seq: w.get("third").Seq, Event: task.Event{Kind: task.EventHeld, Attempt: 1, At: task.At(time.Now()), Text: "restored from a backup"},
		}})
		must(t, err)
		w.wait()
		w.says("third", "held", "restored from a backup; dspy-agent queue release third lets it go")
		// A wish that was stored, and of which the engine has not yet heard.
		w.stop()
		_, err = w.queue.Apply(context.Background(), []task.Change{{
			Seq: w.get("dep-1").Seq, Event: task.Event{Kind: task.EventCancelAsked, At: task.At(time.Now()), By: "uid 9"},
		}})
		must(t, err)
		w.says("dep-1", "being cancelled", "uid 9")
		w.start()
	})
}

// TestExplainTimeout: who is being stopped for its time limit is told so.
func TestExplainTimeout(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("a", `{"run_ms": 5000}`, func(s *task.Spec) { s.Timeout = time.Second }))
		w.fake.SetFaults(lose(task.EventStopped))
		w.pass(2 * time.Second)
		w.says("a", "being stopped", "time limit of 1s")
	})
}
