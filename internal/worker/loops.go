package worker

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

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
	open := len(w.all) - w.done
	if w.rate.value == 0 && open == 0 {
		hold = min(4*slots, mostHeld) // a first taste
	}
	return min(hold-open, mostKept-len(w.all)), hold
}

// leaseLoop asks for attempts while there is room.
func (w *worker) leaseLoop(ctx context.Context) {
	var pause time.Duration
	var seen uint64
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
		g, err := w.Owner.Lease(ctx, lease.Want{Worker: w.Folder.ID(), Room: room, Hold: hold, Wait: callWait, Seen: seen})
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
		pause, seen = 0, max(seen, g.Lease)
		w.take(g)
	}
}

// orderLoop says that this worker lives, and does what the owner wants.
func (w *worker) orderLoop(ctx context.Context) {
	var pause time.Duration
	var seen uint64
	for ctx.Err() == nil {
		o, err := w.Owner.Extend(ctx, lease.Hold{Worker: w.Folder.ID(), Seen: seen, Wait: callWait})
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

// beginLoop begins what there is room for.
func (w *worker) beginLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.work:
		}
		if begun := w.claim(); len(begun) > 0 {
			if err := w.Runner.Launch(ctx, begun); err != nil {
				w.couldNot(begun, err)
			}
		}
	}
}

// claim claims the next attempts for which there is room.
func (w *worker) claim() (begun []task.Task) {
	for {
		h := w.next()
		if h == nil {
			return begun
		}
		ok, err := w.Folder.Claim(h.task.Ref(), h.lease)
		w.mu.Lock()
		switch {
		case ok:
			begun = append(begun, h.task)
		case err != nil:
			w.Logger.Warn("a task cannot be claimed, and is given back", "task", h.task.Spec.ID, "error", err)
			w.leave(h)
			w.giveBack(h)
		default: // it was given on
			w.leave(h)
			delete(w.all, h.task.Ref())
		}
		w.mu.Unlock()
	}
}

// next takes the first attempt out of the line if there is room for it.
func (w *worker) next() *held {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 || w.ending != "" {
		return nil
	}
	h := w.queue[0]
	gpus, ok := w.room.begin(h.task, w.rate.per(beginAhead, w.Now()))
	if !ok {
		return nil
	}
	w.queue = w.queue[1:]
	h.gpus, h.claimed = gpus, true
	if len(w.GPUs) > 0 {
		h.task.Spec.Env = showGPUs(h.task.Spec.Env, gpus)
	}
	return h
}

// leave gives back the room of an attempt. The mutex is held.
func (w *worker) leave(h *held) {
	w.room.end(h.task, h.gpus)
	h.gpus, h.claimed = nil, false
	signal(w.work)
	signal(w.moved)
}

// couldNot ends attempts that the runner did not take.
func (w *worker) couldNot(tasks []task.Task, err error) {
	w.Logger.Warn("tasks could not be started", "tasks", len(tasks), "error", err)
	changes := make([]task.Change, len(tasks))
	for i, t := range tasks {
		changes[i] = task.Change{Seq: t.Seq, Event: task.Event{
			Kind: task.EventNotStarted, At: task.At(w.Now()), Attempt: t.Attempt(), Class: task.CouldNotStart, Text: "its worker could not start it: " + err.Error(),
		}}
	}
	w.sink(changes)
}

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

func (w *worker) count(c task.Change) {
	o := c.Event.Outcome
	if c.Event.Kind == task.EventExited && o.ExitCode == 0 && o.Signal == 0 && o.Class == task.NoFailure {
		w.sum.Succeeded++
		return
	}
	w.sum.Failed++
}

// doubtFor is how long after the end of a task by SIGTERM is seen whether this worker got
// one, too.
const doubtFor = 1500 * time.Millisecond

// doubtful counts an end, or holds it back where it may be the doing of who ends the job.
// The mutex is held.
func (w *worker) doubtful(h *held, c task.Change) {
	o := c.Event.Outcome
	if !w.InJob || h.stopped || h.cut || c.Event.Kind != task.EventExited || o.Signal != int(unix.SIGTERM) && o.ExitCode != 128+int(unix.SIGTERM) {
		w.count(c)
		return
	}
	h.doubt, h.dirty = w.Now(), false
}

// decide reports ends that were held back.
func (w *worker) decide() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.all {
		if h.doubt.IsZero() || !w.asked && w.Now().Sub(h.doubt) < doubtFor {
			continue
		}
		h.doubt, h.dirty = time.Time{}, true
		c := &h.changes[len(h.changes)-1]
		if w.asked {
			c.Event.Outcome.Class, c.Event.Outcome.Message = task.Preempted, "the job of its worker was ended; it is tried again"
		}
		w.count(*c)
		signal(w.report)
	}
}

// cutShort says of an attempt that was ended for want of time that it was preempted.
func (h *held) cutShort(c *task.Change) {
	if !h.cut || h.stopped || c.Event.Kind != task.EventStopped {
		return
	}
	ev := &c.Event
	ev.Kind, ev.Unprompted = task.EventExited, true
	ev.Outcome.Class, ev.Outcome.Message = task.Preempted, "the time of its worker was over; it is tried again"
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
	for ref, h := range w.all {
		if !h.dirty || len(out) == mostReported {
			continue
		}
		h.dirty = false
		out = append(out, lease.Report{Ref: ref, Lease: h.lease, Returned: h.back, Changes: h.changes})
	}
	if len(out) == mostReported {
		signal(w.report)
	}
	return out
}

// undo has reports sent again.
func (w *worker) undo(reports []lease.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range reports {
		if h := w.all[r.Ref]; h != nil && h.doubt.IsZero() {
			h.dirty = true
		}
	}
}

// settle forgets what is stored. What was to be, and is not, is reported again.
func (w *worker) settle(ctx context.Context, reports []lease.Report, settled []task.Ref) {
	leases := make(map[task.Ref]uint64, len(settled))
	w.mu.Lock()
	var forget []task.Ref
	var stop []task.Task
	for _, ref := range settled {
		h := w.all[ref]
		if h == nil {
			continue
		}
		leases[ref] = h.lease
		if h.claimed && !h.ended { // the owner has taken us for gone: it must not go on
			h.stopped = true
			stop = append(stop, h.task)
			continue
		}
		if h.ended {
			forget = append(forget, ref)
		}
		if h.ended || h.back {
			w.done--
		}
		delete(w.all, ref)
	}
	for _, r := range reports {
		if h := w.all[r.Ref]; h != nil && (h.ended && h.doubt.IsZero() || h.back) {
			h.dirty = true
			signal(w.report)
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
	for ref, number := range leases {
		if err := w.Folder.Drop(ref, number); err != nil {
			w.Logger.Debug("a claim stays", "error", err)
		}
	}
}
