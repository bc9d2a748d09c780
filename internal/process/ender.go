package process

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
	// blindPause is when to look again after the table of processes could not be read.
	blindPause = 200 * time.Millisecond
)

// stopAttempt begins to end an attempt. The intent is in the journal before any
// signal goes out, so that after a crash nobody takes the end for the program's
// own doing.
func (s *supervisor) stopAttempt(a *attempt, cause supervisorpb.StopCause) {
	switch {
	case a.phase == ended:
		a.queue.touch(a)
	case a.stop.begun():
	case a.phase == queued:
		a.queue.poolOf(a.claim.GetPool()).remove(a)
		s.finish(a, notBegun())
	case a.phase == claimed && !a.durable:
		s.doneForking(a)
		s.finish(a, notBegun())
	default:
		a.stop = stop{cause: cause, at: now(), boot: bootNow()}
		a.queue.record(a, a.stoppingRecord(), sequel{do: func() { s.stopNow(a) }})
		a.queue.touch(a)
	}
	a.queue.clerk.wake()
}

// stopNow begins to end an attempt whose stop is in the journal. One that is not
// a process yet is ended when it is.
func (s *supervisor) stopNow(a *attempt) {
	if a.phase == running && !a.ending.active {
		s.beginEnding(a, a.grace())
	}
}

func notBegun() *supervisorpb.End {
	return &supervisorpb.End{Kind: supervisorpb.End_KIND_NOT_BEGUN, ExitCode: -1}
}

// beginEnding hands the attempt to the ender. One that it has already is looked
// at again soon; the time of force stands.
func (s *supervisor) beginEnding(a *attempt, grace time.Duration) {
	e := &a.ending
	if !e.active {
		*e = ending{active: true, killAt: bootNow().add(grace), asked: map[int]uint64{}}
	}
	e.nextAt, e.pause = 0, firstPause
	s.ender.wake()
}

// endLoop ends what has to end: what is told to stop, and what programs left
// behind. One walk through the table of processes serves all.
func (s *supervisor) endLoop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, next := s.dueEndings()
		if len(due) > 0 {
			s.look(due)
			continue
		}
		if next > 0 {
			timer.Reset(time.Duration(next - bootNow()))
		}
		select {
		case <-ctx.Done():
			return
		case <-s.ender:
		case <-timer.C:
		}
	}
}

// dueEndings returns the attempts to look at now, and when the next is due.
func (s *supervisor) dueEndings() (due []*attempt, next bootTime) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := bootNow()
	for _, q := range s.queues {
		for _, a := range q.attempts {
			switch e := &a.ending; {
			case !e.active || a.phase != running || a.departing:
			case e.nextAt <= at:
				due = append(due, a)
			case next == 0 || e.nextAt < next:
				next = e.nextAt
			}
		}
	}
	return due, next
}

// look finds the processes of attempts that have to end, signals them, and
// finishes the attempts of which nothing is left.
func (s *supervisor) look(due []*attempt) {
	var table map[int]process
	var marks map[int]string
	if s.needTable(due) {
		var err error
		if table, marks, err = census(); err != nil {
			s.log.Error("cannot list processes", "error", err)
		}
	}
	for _, a := range due {
		s.step(a, table, marks)
	}
}

// needTable says whether one of them has no cgroup that tells who belongs to it.
func (s *supervisor) needTable(due []*attempt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(due, func(a *attempt) bool { return a.proc.cgroup == nil })
}

// census lists all processes, and the markers of those that have one.
func census() (map[int]process, map[int]string, error) {
	table, err := processes()
	if err != nil {
		return nil, nil, err
	}
	marks, err := markers(table)
	if err != nil {
		return nil, nil, err
	}
	return table, marks, nil
}

// step takes one attempt one step further.
func (s *supervisor) step(a *attempt, table map[int]process, marks map[int]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.phase != running || !a.ending.active || a.departing {
		return
	}
	e := &a.ending
	if a.proc.cgroup == nil && table == nil {
		// Nothing is known, least of all that nothing is left.
		e.nextAt = bootNow().add(blindPause)
		return
	}
	left := a.members(table, marks)
	if a.proc.gone && len(left) == 0 && !a.hidden(table) {
		s.finish(a, a.proc.exit)
		s.refill(nil)
		a.queue.clerk.wake()
		return
	}
	force := bootNow() >= e.killAt
	if s.signalAll(a, left, force) && a.stop.begun() {
		a.stop.signalled = true
	}
	e.nextAt = e.killAt
	if a.proc.gone || force {
		// Nobody tells when the rest is gone, so look, less and less often.
		e.nextAt = bootNow().add(e.pause)
		if !force {
			e.nextAt = min(e.nextAt, e.killAt)
		}
		e.pause = min(2*e.pause, lastPause)
	}
}

// signalAll asks every process once, or ends all by force. It says whether a
// signal went out.
func (s *supervisor) signalAll(a *attempt, left []process, force bool) (sent bool) {
	if force && a.proc.cgroup != nil && a.proc.cgroup.kill() {
		return len(left) > 0
	}
	if force {
		sent = a.killGroups(left) && len(left) > 0
	}
	for _, p := range left {
		switch {
		case force:
			sent = p.signal(unix.SIGKILL) || sent
		case a.ending.asked[p.pid] != p.start && p.signal(unix.SIGTERM):
			a.ending.asked[p.pid] = p.start
			// A stopped process (Ctrl-Z, SIGSTOP) would sleep through its grace.
			p.signal(unix.SIGCONT)
			sent = true
		}
	}
	return sent
}

func (p *pool) remove(a *attempt) {
	for i, w := range p.waiting {
		if w == a {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			return
		}
	}
}
