package worker

import (
	"context"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// held is an attempt that this worker has.
type held struct {
	task    task.Task
	lease   uint64
	claimed bool
	gpus    []string
	changes []task.Change
	dirty   bool // something is to be reported
	back    bool // it was given back
	stopped bool // the owner wants it to end
	cut     bool // it is ended since the worker's time is over
	ended   bool
	// doubt is when it ended by a SIGTERM that may have been meant for the whole job; zero
	// = it did not, or that is decided.
	doubt time.Time
}

// worker is one while it runs.
type worker struct {
	Options

	mu      sync.Mutex
	all     map[task.Ref]*held
	queue   []*held // not begun, in order
	done    int     // of all, those that have ended or were given back
	room    room
	rate    rate
	ending  string // why it takes nothing more; "" = it does
	asked   bool   // it was asked to end, by a signal
	heard   time.Time
	busy    time.Time // when it had something last
	sum     Summary
	refused bool      // the owner does not know it any more
	leased  uint64    // number of the last grant
	failed  time.Time // when something could not be claimed last

	work   chan struct{} // of capacity 1: something may begin
	wish   chan struct{} // of capacity 1: there may be room for more
	report chan struct{} // of capacity 1: something is to be reported
	moved  chan struct{} // of capacity 1: what Run waits for may have come
}

func newWorker(o Options) *worker {
	return &worker{
		Options: o, all: map[task.Ref]*held{}, room: newRoom(o), heard: o.Now(), busy: o.Now(),
		work: make(chan struct{}, 1), wish: make(chan struct{}, 1), report: make(chan struct{}, 1), moved: make(chan struct{}, 1),
	}
}

// Run works until ctx ends, its time is over, the owner wants it to end, or nothing has
// come for a while; then it ends what it has, in the time that there is.
func Run(ctx context.Context, o Options) (Summary, error) {
	if err := o.fill(); err != nil {
		return Summary{}, err
	}
	w := newWorker(o)
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	leasing, enough := context.WithCancel(inner)
	defer enough()
	failed := make(chan error, 1)
	wg.Go(func() {
		if err := w.Runner.Watch(inner, nil, w.sink); err != nil {
			failed <- err
		}
	})
	wg.Go(func() { w.leaseLoop(leasing) })
	wg.Go(func() { w.orderLoop(inner) })
	wg.Go(func() { w.beginLoop(inner) })
	wg.Go(func() { w.reportLoop(inner) })
	why, err := w.untilEnd(ctx, failed)
	w.stopLeasing(why)
	enough()
	if err == nil {
		w.windUp(inner)
	}
	return w.summary(why), err
}

func (w *worker) summary(why string) Summary {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sum.Why = why
	return w.sum
}

// signal wakes whoever waits at a channel of capacity 1.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// untilEnd returns why this worker takes nothing more.
func (w *worker) untilEnd(ctx context.Context, failed <-chan error) (string, error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if why := w.over(); why != "" {
			return why, nil
		}
		select {
		case <-ctx.Done():
			w.mu.Lock()
			w.asked = true
			w.mu.Unlock()
			return "it was asked to end", nil
		case err := <-failed:
			return "it cannot run tasks", err
		case <-w.moved:
		case <-tick.C:
			w.decide()
		}
	}
}

// over says why it takes nothing more; "" = it does.
func (w *worker) over() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.Now()
	if len(w.all) > 0 {
		w.busy = now
	}
	switch {
	case w.ending != "":
		return w.ending
	case w.refused:
		return "the queue's owner has taken it for gone"
	case !w.Until.IsZero() && now.After(w.Until.Add(-w.drain())):
		return "its time is nearly over"
	case now.Sub(w.heard) > w.Patience:
		return "nothing was heard of the queue's owner for " + w.Patience.String()
	case w.Idle > 0 && now.Sub(w.busy) > w.Idle:
		return "there was nothing to do for " + w.Idle.String()
	}
	return ""
}

// drain is how long before the end of its time it takes nothing more: twice the margin,
// so that what has just begun has the margin to end in.
func (w *worker) drain() time.Duration { return 2 * w.Margin }

// stopLeasing gives back what has not begun. What is leased from now on is given back as
// it comes.
func (w *worker) stopLeasing(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ending = why
	for _, h := range w.queue {
		w.giveBack(h)
	}
	w.queue = nil
	w.Logger.Info("the worker takes no more tasks", "reason", why, "running", len(w.all))
}

// giveBack has the owner give an attempt to another. The mutex is held.
func (w *worker) giveBack(h *held) {
	h.back, h.dirty = true, true
	w.done++
	w.sum.Returned++
	signal(w.report)
}

// windUp waits for what runs, ends what would not end in time, and sees to it that all
// is reported.
func (w *worker) windUp(ctx context.Context) {
	w.await(w.endAt(), w.idle)
	w.cutOff(ctx)
	last := w.Now().Add(2 * w.Margin)
	if !w.Until.IsZero() && w.Until.Before(last) {
		last = w.Until
	}
	w.await(last, w.idle)
	if n := w.has(); n > 0 {
		w.Logger.Warn("the worker ends with tasks that are not reported; the queue's owner finds them in its folder", "tasks", n)
		return
	}
	if err := w.Folder.Leave(); err != nil {
		w.Logger.Warn("cannot note that the worker has ended; the queue's owner finds out", "error", err)
	}
}

// warning is how long before the end of a job its SIGTERM may be what --signal=B:TERM@60 asks
// for, which Slurm may send a minute early. One that comes before that ends the job now.
const warning = 2 * time.Minute

// endAt is when what runs is made to end: as late as there is time for it where the time is
// over, or Slurm has said that it soon will be, and soon where somebody ends this worker.
func (w *worker) endAt() time.Time {
	w.mu.Lock()
	asked := w.asked
	w.mu.Unlock()
	now := w.Now()
	switch {
	case w.Until.IsZero(), asked && !w.InJob, w.Until.Sub(now) > max(warning, w.drain()):
		return now.Add(w.Grace)
	default:
		return w.Until.Add(-w.Margin)
	}
}

func (w *worker) idle() bool { return w.has() == 0 }

// has is how many attempts it has.
func (w *worker) has() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all)
}

// await returns when done says so, or at the given time.
func (w *worker) await(late time.Time, done func() bool) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !done() && w.Now().Before(late) {
		select {
		case <-w.moved:
		case <-tick.C:
			w.decide()
		}
	}
}

// cutOff ends what still runs.
func (w *worker) cutOff(ctx context.Context) {
	w.mu.Lock()
	var stop []task.Task
	for _, h := range w.all {
		if h.claimed && !h.ended {
			h.cut = true
			stop = append(stop, h.task)
		}
	}
	w.mu.Unlock()
	w.end(ctx, stop)
}

// take keeps what was leased.
func (w *worker) take(g lease.Grant) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leased = max(w.leased, g.Lease)
	for _, t := range g.Tasks {
		if old := w.all[t.Ref()]; old != nil {
			if !old.back || old.lease >= g.Lease {
				continue // the grant came twice
			}
			w.remove(old) // the owner has it back, and gives it to us again
		}
		h := &held{task: t, lease: g.Lease}
		w.all[t.Ref()] = h
		if w.ending != "" {
			w.giveBack(h)
			continue
		}
		w.queue = append(w.queue, h)
	}
	signal(w.work)
}
