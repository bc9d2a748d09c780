package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// askPatience is how long somebody who asks is kept while it is not known what became of
// a commit.
const askPatience = time.Second

// commit applies the changes, and answers those who asked for the first of them. When it
// fails, nothing is on disk, and the next round decides anew.
//
// That is not so where nobody knows what became of a commit: what it placed may be on
// disk, and no round can be planned before that is certain. So the same changes are
// tried again until they are known to be there, or the engine ends.
func (e *Engine) commit(ctx context.Context, asks []input, changes []task.Change) ([]task.Applied, error) {
	failpoint.Here("engine/before-commit")
	began, unknown := e.now(), false
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		applied, err := e.store.Apply(ctx, changes)
		if err == nil {
			failpoint.Here("engine/after-commit")
			e.last = time.Now()
			e.answer(asks, applied, nil)
			return applied, nil
		}
		unknown = unknown || errors.Is(err, task.ErrOutcomeUnknown)
		if !unknown || !passing(err) {
			e.answer(asks, nil, err)
			return nil, err
		}
		if e.now().Add(wait).Sub(began) > askPatience {
			e.answer(asks, nil, err)
			asks = nil
		}
		e.log.Error("it is not known whether the queue was written; will try again", "error", err, "wait", wait)
		if !e.pause(ctx, wait) {
			e.answer(asks, nil, ctx.Err())
			return nil, ctx.Err()
		}
	}
}

// errUnsettled is the answer to what is asked meanwhile.
var errUnsettled = task.Errorf(task.CodeUnavailable,
	"nothing was done: it is not known what became of an earlier write to the queue, and nothing else is written until it is; look at the disk and the kernel's log, and try again")

// pause waits before a commit is tried again, and refuses what is asked meanwhile. false
// means that ctx ended.
func (e *Engine) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case in := <-e.asks:
			in.answer <- answer{err: errUnsettled}
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// answer tells everybody who asked what became of it. Their changes come first
// in applied, in the order of asks.
func (e *Engine) answer(asks []input, applied []task.Applied, err error) {
	for _, in := range asks {
		a := answer{err: err}
		if err == nil {
			a.applied, applied = applied[:len(in.changes)], applied[len(in.changes):]
		}
		in.answer <- a
	}
}

// passing says whether an error of the store may go away by itself.
func passing(err error) bool {
	code := task.CodeOf(err)
	return code == task.CodeExhausted || code == task.CodeUnavailable
}

// survive decides whether the engine can go on after an error of the store. Reports are
// in the inbox again, as their senders forget them only when they are told that they are
// on disk; what was claimed for tasks that were to be placed is given back.
func (e *Engine) survive(step string, err error) (bool, error) {
	if !passing(err) {
		return false, fmt.Errorf("%s: %w", step, err)
	}
	if e.stuck.err == nil {
		e.log.Error("the queue cannot be used for the moment; will try again", "step", step, "error", err)
		e.stuck.since = e.now()
	}
	e.stuck.err = err
	e.due = task.At(e.now().Add(repeatEvery))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tellGPUs()
	return false, nil
}

// stuck is why the last round came to nothing.
type stuck struct {
	err   error // nil = it did not
	since time.Time
}

// stuckPatience is how long the store may fail before somebody who stays only while there
// is something to do need not wait for it any longer.
const stuckPatience = 5 * time.Second

// outlasts says whether the store has failed for so long.
func (s stuck) outlasts(now time.Time) bool {
	return s.err != nil && now.Sub(s.since) >= stuckPatience
}

// works says in the log that the store does again what it is asked for.
func (e *Engine) works() {
	if e.stuck.err != nil {
		e.log.Info("the queue can be used again")
	}
}
