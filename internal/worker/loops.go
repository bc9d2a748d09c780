package worker

import (
	"context"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

const (
	// callWait is how long a call waits for something to do. It is also the least that is
	// heard of this worker.
	callWait = 5 * time.Second
	// aheadOf and beginAhead are for how long what is held, and what has been handed to the
	// supervisor, would keep this worker busy.
	aheadOf    = time.Second
	beginAhead = 100 * time.Millisecond
	mostHeld   = 2000
	// mostKept bounds those as well that have ended and whose ends are not stored yet.
	mostKept = 4 * mostHeld
)

// Pauses after a call that failed.
const (
	failFirst = 50 * time.Millisecond
	failLast  = 2 * time.Second
)

// heardNow notes an answer, or that the owner does not know us any more.
func (w *worker) heardNow(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.heard = w.Now()
		return
	}
	if code := task.CodeOf(err); code == task.CodeNotFound {
		w.refused = true
		signal(w.moved)
	}
}

// again waits after a call that failed, ever longer. false = ctx has ended.
func again(ctx context.Context, pause *time.Duration) bool {
	*pause = min(max(2**pause, failFirst), failLast)
	t := time.NewTimer(*pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// wants is how many attempts to ask for now, and to have altogether.
func (w *worker) wants() (room, hold int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	slots := int((w.CPUMilli + 999) / 1000)
	hold = min(slots+w.rate.per(aheadOf, w.Now()), mostHeld)
	if w.Now().Sub(w.failed) < failLast {
		return 0, hold // it would come back at once
	}
	open := len(w.all) - w.done
	if w.rate.value == 0 && open == 0 {
		hold = min(4*slots, mostHeld) // a first taste
	}
	return min(hold-open, mostKept-len(w.all)), hold
}

// leaseLoop asks for attempts while there is room.
func (w *worker) leaseLoop(ctx context.Context) {
	var pause time.Duration
	look := time.NewTicker(window)
	defer look.Stop()
	for ctx.Err() == nil {
		room, hold := w.wants()
		if room <= 0 || room < hold/4 {
			select {
			case <-ctx.Done():
			case <-w.wish:
			case <-look.C:
			}
			continue
		}
		g, err := w.Owner.Lease(ctx, lease.Want{Worker: w.Folder.ID(), Room: room, Hold: hold, Wait: callWait, Seen: w.last()})
		w.heardNow(err)
		if err != nil {
			if ctx.Err() == nil {
				w.Logger.Info("no tasks were to be had; will ask again", "error", err)
			}
			if !again(ctx, &pause) {
				return
			}
			continue
		}
		pause = 0
		w.take(g)
	}
}

// orderLoop says that this worker lives, and does what the owner wants.
func (w *worker) orderLoop(ctx context.Context) {
	var pause time.Duration
	var seen uint64
	for ctx.Err() == nil {
		o, err := w.Owner.Extend(ctx, w.hold(seen))
		w.heardNow(err)
		if err != nil {
			if !again(ctx, &pause) {
				return
			}
			continue
		}
		pause, seen = 0, o.Serial
		w.obey(ctx, o)
	}
}

// last is the number of the last grant.
func (w *worker) last() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leased
}

// hold says what is here and has not begun.
func (w *worker) hold(seen uint64) lease.Hold {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := lease.Hold{Worker: w.Folder.ID(), Seen: seen, Wait: callWait, Leased: w.leased}
	for _, q := range w.queue {
		h.Waiting = append(h.Waiting, q.task.Ref())
	}
	return h
}

func (w *worker) obey(ctx context.Context, o lease.Orders) {
	var stop []task.Task
	w.mu.Lock()
	if o.Leave && w.ending == "" {
		w.ending = "the queue's owner needs it no more"
		signal(w.moved)
	}
	for _, ref := range o.Stop {
		if h := w.all[ref]; h != nil && h.claimed && !h.ended {
			h.stopped = true
			stop = append(stop, h.task)
		}
	}
	w.mu.Unlock()
	w.end(ctx, stop)
}

// end has the runner end attempts.
func (w *worker) end(ctx context.Context, tasks []task.Task) {
	for _, t := range tasks {
		if err := w.Runner.Stop(ctx, t); err != nil {
			w.Logger.Warn("cannot end a task", "task", t.Spec.ID, "error", err)
		}
	}
}
