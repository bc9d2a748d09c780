package process

import (
	"context"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// tick is how often running tasks are looked at: their time limits, their output,
// and whether the kernel killed somebody.
const tick = time.Second

// keepTime enforces time limits, sees what waits for too long, and ends the
// supervisor when it has been idle for long enough. It does no I/O.
func (s *supervisor) keepTime(ctx context.Context, idle func()) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.keeper:
		case <-timer.C:
		}
		next, leave := s.keep()
		if leave {
			idle()
			return
		}
		timer.Reset(time.Duration(next - bootNow()))
	}
}

// keep does what is due and returns when something is next.
func (s *supervisor) keep() (next bootTime, leave bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := bootNow()
	next = at.add(tick)
	busy, open := false, false
	for _, q := range s.queues {
		busy = busy || len(q.attempts) > 0
		for _, a := range q.attempts {
			open = open || !a.settled
			next = min(next, s.keepAttempt(a, at, next))
		}
		q.overdue(at)
		if len(q.attempts) == 0 {
			q.compact()
		}
	}
	s.countHung(at)
	s.refill(nil) // what is stuck has made room
	s.hire()
	if busy {
		s.oom.read()
	}
	// Ends that nobody has taken yet are in the journals, where the next
	// supervisor finds them; they need not be waited for.
	if open || s.clients > 0 {
		s.idleAt = 0
		if !busy {
			next = at.add(s.opts.Idle) // a client that leaves wakes us
		}
		s.keepAt = next
		return next, false
	}
	if s.idleAt == 0 {
		s.idleAt = at
	}
	s.keepAt = s.idleAt.add(s.opts.Idle)
	return s.keepAt, at >= s.keepAt || s.farewell
}

// keepAttempt looks at one attempt, and returns when its time limit strikes; at
// the latest next.
func (s *supervisor) keepAttempt(a *attempt, at, next bootTime) bootTime {
	if a.phase == claimed && a.forkAt != 0 && !a.stuck && a.forkAt.add(stuckAfter) <= at {
		s.getStuck(a)
	}
	switch limit := a.timeLimit(); {
	case limit == 0:
		return next
	case limit <= at:
		s.stopAttempt(a, supervisorpb.StopCause_STOP_CAUSE_TIMEOUT)
		return next
	default:
		return limit
	}
}

// keepFor sees to it that the keeper looks in time for an attempt that has just
// begun to run.
func (s *supervisor) keepFor(a *attempt) {
	at := bootNow().add(tick)
	if limit := a.timeLimit(); limit != 0 {
		at = min(at, limit)
	}
	if at < s.keepAt {
		s.keepAt = at
		s.keeper.wake()
	}
}
