package process

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Pauses between attempts to read a result.
const (
	unreadFirst = 100 * time.Millisecond
	unreadLast  = 10 * time.Second
)

// resultPatience is how long the end of an attempt is held back because its
// result cannot be read. A variable for tests.
var resultPatience = 5 * time.Minute

// unread are attempts that have ended, and whose ends cannot be told yet since
// their results could not be read for a reason that may pass. The supervisor
// keeps the ends meanwhile: whoever is killed loses none. Should it lose them with
// its journal, what is here still counts.
type unread struct {
	turn sync.Mutex // of taking reports and delivering what follows from them
	wake waker

	mu   sync.Mutex
	ends map[task.Ref]*unreadEnd
}

type unreadEnd struct {
	origin *origin
	report *supervisorpb.Report
	since  time.Time
	again  time.Time
	pause  time.Duration
}

func newUnread() *unread { return &unread{wake: newWaker(), ends: map[task.Ref]*unreadEnd{}} }

// keep takes in an end that is to be looked at again.
func (u *unread) keep(ref task.Ref, o *origin, r *supervisorpb.Report) {
	u.mu.Lock()
	defer u.mu.Unlock()
	e := u.ends[ref]
	if e == nil {
		e = &unreadEnd{since: time.Now(), pause: unreadFirst}
		u.ends[ref] = e
	}
	e.origin, e.report = o, r
	e.again, e.pause = time.Now().Add(e.pause), min(2*e.pause, unreadLast)
	u.wake.wake()
}

// drop forgets an end that was told.
func (u *unread) drop(ref task.Ref) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.ends, ref)
}

// report is the end that is held back; nil = none is.
func (u *unread) report(ref task.Ref) *supervisorpb.Report {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := u.ends[ref]; e != nil {
		return e.report
	}
	return nil
}

// waited returns for how long the result could not be read.
func (u *unread) waited(ref task.Ref) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := u.ends[ref]; e != nil {
		return time.Since(e.since)
	}
	return 0
}

// due returns the ends to look at now, and how long until the next.
func (u *unread) due() (now []*unreadEnd, pause time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	pause = unreadLast
	for _, ref := range slices.SortedFunc(maps.Keys(u.ends), byAge) {
		e := u.ends[ref]
		if wait := time.Until(e.again); wait > 0 {
			pause = min(pause, wait)
		} else {
			now = append(now, e)
		}
	}
	return now, pause
}

// tellUnread looks again at results until ctx ends.
func (b *Backend) tellUnread(ctx context.Context, deliver func([]task.Change)) {
	timer := time.NewTimer(unreadLast)
	defer timer.Stop()
	for {
		ends, pause := b.unread.due()
		for _, e := range ends {
			b.tellUnreadEnd(e, deliver)
		}
		if len(ends) > 0 {
			continue
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return
		case <-b.unread.wake:
		case <-timer.C:
		}
	}
}

// tellUnreadEnd looks once more at one of them.
func (b *Backend) tellUnreadEnd(e *unreadEnd, deliver func([]task.Change)) {
	b.unread.turn.Lock()
	defer b.unread.turn.Unlock()
	ref := refOf(e.report.GetName())
	b.mu.Lock()
	told := b.told[ref]
	b.mu.Unlock()
	if told == toldNothing || told == toldEnd {
		b.unread.drop(ref) // it was told otherwise meanwhile, and maybe forgotten
		return
	}
	if changes := b.take(e.origin, []*supervisorpb.Report{e.report}); len(changes) > 0 {
		deliver(changes)
	}
}

// unreadResult decides about a result that could not be read: an error as long
// as it may still be, and nil when that has lasted too long. The attempt fails
// then, since nobody knows what it gave back.
func (b *Backend) unreadResult(ref task.Ref, err error, o *task.Outcome) error {
	waited := b.unread.waited(ref)
	if waited < resultPatience {
		if waited == 0 {
			b.opts.Logger.Warn("the end of a task is held back until its result can be read", "task", ref.Seq, "attempt", ref.Attempt, "error", err)
		}
		return err
	}
	b.unread.drop(ref)
	if o.ExitCode == 0 && o.Signal == 0 {
		// Nobody's fault in the task: whether it runs again is up to its on_lost.
		o.Class = task.Vanished
		o.Message = fmt.Sprintf("ended with exit code 0, but for %s %v: mend that, and retry the task", resultPatience, err)
	}
	return nil
}
