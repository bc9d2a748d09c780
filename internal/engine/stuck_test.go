package engine_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// answerLimit is how long a person waits for an answer at most.
const answerLimit = 2 * time.Second

// TestAsksOnAFullDisk: whoever asks while reports wait for room on the disk is told so at
// once, and what they have asked for is not done later.
func TestAsksOnAFullDisk(t *testing.T) {
	var log logBuffer
	inBubble(t, settings{cpus: 4, log: &log}, func(w *world) {
		w.submit(job("ends", `{"run_ms": 1000, "result": {"n": 3}}`), job("hangs", `{"hang": true}`))
		w.store.breakWith(diskFull())
		w.store.breakApply(diskFull())
		for _, broken := range []error{diskFull(), nil} { // all calls, and Apply alone
			w.store.breakWith(broken)
			w.pass(time.Minute)
			ctx, cancel := context.WithTimeout(context.Background(), answerLimit)
			if _, err := w.engine.Cancel(ctx, w.get("hangs"), "uid 7", ""); task.CodeOf(err) != task.CodeExhausted {
				t.Errorf("a cancel is answered with %v", err)
			}
			_, _, err := w.engine.PauseClass(ctx, "c", "uid 7", "")
			if broken != nil && task.CodeOf(err) != task.CodeExhausted || broken == nil && err != nil {
				t.Errorf("a pause is answered with %v", err)
			}
			cancel()
		}
		w.store.breakApply(nil)
		w.pass(2 * time.Second)
		w.want("ends", task.Succeeded)
		w.want("hangs", task.Running)
		if n := log.count("level=ERROR"); n > 5 {
			t.Errorf("%d errors are logged:\n%s", n, log.text())
		}
		if n := log.count("can be used again"); n != 1 {
			t.Errorf("it is said %d times that it works again:\n%s", n, log.text())
		}
	})
}

// TestGivenUpPlaces: what could not be placed on a full disk is placed when there is room,
// and what was asked in between counts.
func TestGivenUpPlaces(t *testing.T) {
	inBubble(t, settings{cpus: 1}, func(w *world) {
		w.store.breakApply(diskFull())
		w.submit(job("a", `{}`), job("b", `{}`))
		w.pass(time.Minute)
		w.want("a", task.Pending)
		if _, _, err := w.engine.PauseClass(context.Background(), "c", "uid 7", ""); err != nil {
			t.Fatal(err)
		}
		w.store.breakApply(nil)
		w.pass(time.Minute)
		w.want("a", task.Pending)
		if _, _, err := w.engine.ResumeClass(context.Background(), "c", "uid 7"); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		w.want("a", task.Succeeded)
		w.want("b", task.Succeeded)
		if n := w.began(); n != 2 {
			t.Errorf("%d attempts began", n)
		}
	})
}

// TestAsksOfAnUnknownOutcome: as long as nobody knows what became of a commit, whoever
// waits for it is told that, and others that nothing is done for them.
func TestAsksOfAnUnknownOutcome(t *testing.T) {
	inBubble(t, settings{}, func(w *world) {
		w.submit(job("a", `{"hang": true}`))
		w.store.breakApply(&task.Error{Code: task.CodeUnavailable, Message: "the last sync failed", Err: queue.ErrOutcomeUnknown})
		for _, waits := range []bool{true, false} { // for that commit
			ctx, cancel := context.WithTimeout(context.Background(), answerLimit)
			_, err := w.engine.Cancel(ctx, w.get("a"), "uid 7", "")
			cancel()
			if task.CodeOf(err) != task.CodeUnavailable || errors.Is(err, queue.ErrOutcomeUnknown) != waits {
				t.Errorf("a cancel that waits for the commit (%v) is answered with %v", waits, err)
			}
		}
		w.store.breakApply(nil)
		w.pass(time.Minute)
		w.want("a", task.Cancelled) // it was said that it may be
	})
}

// TestQuietOnAFullDisk: where nothing runs, nobody is kept for long by a disk that is full.
// What runs is followed.
func TestQuietOnAFullDisk(t *testing.T) {
	var told, next atomic.Int64
	quiet := func(at task.Instant) {
		next.Store(int64(at))
		told.Add(1)
	}
	inBubble(t, settings{quiet: quiet}, func(w *world) {
		w.submit(job("ends", `{"run_ms": 1000}`))
		w.store.breakWith(diskFull())
		w.pass(time.Second)
		before := told.Load()
		w.pass(time.Minute)
		if told.Load() > before {
			t.Error("quiet while the end of a task is not on disk")
		}
		w.store.breakWith(nil)
		w.pass(time.Minute)
		w.want("ends", task.Succeeded)

		w.store.breakApply(diskFull())
		w.submit(job("waits", `{}`))
		w.wait()
		before = told.Load()
		if w.pass(2 * time.Second); told.Load() > before {
			t.Error("quiet after a moment")
		}
		if w.pass(10 * time.Second); told.Load() == before || next.Load() != 0 {
			t.Errorf("nothing can be done, and it is not told, or as if it would be soon (%d)", next.Load())
		}
		w.store.breakApply(nil)
		w.pass(10 * time.Second)
		w.want("waits", task.Succeeded)
	})
}
