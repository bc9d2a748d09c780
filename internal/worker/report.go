package worker

import (
	"context"
	"errors"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// sink takes what the runner reports.
func (w *worker) sink(changes []task.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	done := 0
	for _, c := range changes {
		h := w.all[task.Ref{Seq: c.Seq, Attempt: c.Event.Attempt}]
		if h == nil || h.ended {
			continue
		}
		h.cutShort(&c)
		h.changes, h.dirty = append(h.changes, c), true
		if c.Event.Kind.Ends() {
			h.ended = true
			w.done++
			done++
			w.doubtful(h, c)
			w.leave(h)
		}
	}
	w.rate.add(done, w.Now())
	signal(w.report)
}

// mostReported is how many attempts one report is about at most.
const mostReported = 1000

// reportLoop reports, and forgets what is settled. What comes while a report is under way
// goes with the next.
func (w *worker) reportLoop(ctx context.Context) {
	var pause time.Duration
	for {
		if !w.gather(ctx) {
			return
		}
		reports := w.dirty()
		if len(reports) == 0 {
			continue
		}
		settled, err := w.Owner.Complete(ctx, w.Folder.ID(), reports)
		w.heardNow(err)
		if err != nil {
			w.undo(reports)
			signal(w.report)
			if !errors.Is(err, context.Canceled) {
				w.Logger.Info("a report is sent again", "tasks", len(reports), "error", err)
			}
			if !again(ctx, &pause) {
				return
			}
			continue
		}
		pause = 0
		w.settle(ctx, reports, settled)
	}
}

const (
	// gatherFor is how long reports are gathered where attempts end so fast that none is
	// missed: each report costs the owner a commit.
	gatherFor  = 40 * time.Millisecond
	gatherFrom = 25 // ends a second
)

// gather waits for something to report, and a moment longer where more is about to come.
// false = ctx has ended.
func (w *worker) gather(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-w.report:
	}
	w.mu.Lock()
	fast := w.rate.per(time.Second, w.Now()) >= gatherFrom && w.ending == ""
	w.mu.Unlock()
	if !fast {
		return true
	}
	t := time.NewTimer(gatherFor)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// dirty returns what is to be reported.
func (w *worker) dirty() []lease.Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []lease.Report
	size := 0
	for ref, h := range w.all {
		if !h.dirty {
			continue
		}
		r := lease.Report{Ref: ref, Lease: h.lease, Returned: h.back, Changes: h.changes}
		size += r.Bytes()
		if len(out) == mostReported || len(out) > 0 && size > lease.MaxBatchBytes {
			signal(w.report) // the rest comes next
			break
		}
		h.dirty = false
		out = append(out, r)
	}
	return out
}

// undo has reports sent again.
func (w *worker) undo(reports []lease.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range reports {
		if h := w.all[r.Ref]; h != nil && h.lease == r.Lease && h.doubt.IsZero() {
			h.dirty = true
		}
	}
}

// settle forgets what is stored. What was to be, and is not, is reported again.
func (w *worker) settle(ctx context.Context, reports []lease.Report, settled []task.Ref) {
	over := make(map[task.Ref]bool, len(settled))
	for _, ref := range settled {
		over[ref] = true
	}
	w.mu.Lock()
	var forget []task.Ref
	var stop []task.Task
	for _, r := range reports {
		h := w.all[r.Ref]
		switch {
		case h == nil || h.lease != r.Lease: // it was leased again meanwhile
		case !over[r.Ref]:
			if h.ended && h.doubt.IsZero() || h.back {
				h.dirty = true
				signal(w.report)
			}
		case h.claimed && !h.ended: // the owner has taken us for gone: it must not go on
			h.stopped = true
			stop = append(stop, h.task)
			over[r.Ref] = false // its claim is needed
		default:
			if h.ended {
				forget = append(forget, r.Ref)
			}
			w.remove(h)
		}
	}
	w.mu.Unlock()
	signal(w.moved)
	signal(w.wish)
	w.end(ctx, stop)
	if len(forget) > 0 {
		if err := w.Runner.Forget(ctx, forget); err != nil {
			w.Logger.Debug("the supervisor keeps what it knew", "error", err)
		}
	}
	w.drop(reports, over)
}

// remove forgets an attempt. The mutex is held.
func (w *worker) remove(h *held) {
	delete(w.all, h.task.Ref())
	if h.ended || h.back {
		w.done--
	}
}

// drop removes the claims of what was reported and is over.
func (w *worker) drop(reports []lease.Report, over map[task.Ref]bool) {
	for _, r := range reports {
		if !over[r.Ref] {
			continue
		}
		if err := w.Folder.Drop(r.Ref, r.Lease); err != nil {
			w.Logger.Debug("a claim stays", "error", err)
		}
	}
}
