package process

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// tick is how often running tasks are looked at: their output, and whether the
// kernel killed somebody.
const tick = time.Second

// keepTime enforces time limits and output caps, and ends the supervisor when
// it has been idle for long enough.
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
		for _, a := range q.attempts {
			busy = true
			open = open || a.phase != ended
			if a.phase != running || a.proc.gone {
				continue
			}
			if limit := a.timeLimit(); limit != 0 && limit <= at {
				s.stopAttempt(a, supervisorpb.StopCause_STOP_CAUSE_TIMEOUT)
			} else if limit != 0 {
				next = min(next, limit)
			}
			s.capLog(a, at)
		}
		if !busy {
			s.compact(q)
		}
	}
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

// capLog cuts the middle out of the output of an attempt that writes too much.
func (s *supervisor) capLog(a *attempt, at bootTime) {
	if a.proc.log < 0 || a.queue.logCap <= 0 || at < a.proc.began.add(tick) {
		return
	}
	var st unix.Stat_t
	if unix.Fstat(a.proc.log, &st) != nil || st.Blocks*512 <= a.queue.logCap {
		return
	}
	if err := cutLog(a.proc.log, string(a.claim.GetLogPath()), st.Size, a.queue.logCap); err != nil {
		s.log.Error("cannot bound the output of a task", "queue", a.queue.id, "task", a.ref.Seq, "error", err)
	}
}

// compact makes the journal small again: empty when nothing of it is needed,
// else with only what is.
func (s *supervisor) compact(q *queue) {
	if !q.outstanding() {
		if err := q.journal.reset(); err != nil {
			s.log.Error("journal", "queue", q.id, "error", err)
		}
		return
	}
	if err := q.journal.rewrite(func() {
		for _, a := range q.attempts {
			q.record(a)
		}
	}); err != nil {
		s.log.Error("journal", "queue", q.id, "error", err)
	}
}

// record adds all that the journal has to hold about an attempt.
func (q *queue) record(a *attempt) {
	if a.phase == queued {
		return
	}
	q.journal.add(a.name, a.claim)
	if a.proc.pid != 0 {
		q.journal.add(a.name, a.startedRecord())
	}
	if st := &a.stop; st.begun() {
		q.journal.add(a.name, &supervisorpb.Stopping{Cause: st.cause, BootNs: int64(st.boot), At: int64(st.at)})
	}
	if a.end != nil {
		q.journal.add(a.name, a.end)
	}
}
