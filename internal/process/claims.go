package process

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxForking bounds how many attempts of a queue are between claim and process.
	// Those are the ones that may be lost when the supervisor is killed.
	maxForking = 8
	// stuckAfter is when an attempt that does not become a process is not counted
	// among those any more: it hangs on a file server, and others may not.
	stuckAfter = time.Second
	// maxStuck bounds them all the same, since each has a thread.
	maxStuck = mostRunners - 2*runnersKept
)

// What one running attempt takes of the limit of open files, what is left for
// all else, and the bounds of how many may be active, whatever the limit is.
const (
	filesPerAttempt = 6 // log, pidfd, three of a cgroup, one in passing
	filesForOthers  = 128
	fewestActive    = 16
	mostActive      = 4096
)

// maxActive is how many attempts are active at a time, those of all queues
// together: small tasks must not use up what the supervisor itself needs.
func maxActive() int {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fewestActive
	}
	files := min(lim.Cur, filesForOthers+mostActive*filesPerAttempt)
	return max(fewestActive, (int(files)-filesForOthers)/filesPerAttempt)
}

// refill claims attempts wherever there is room. The journals of other queues
// than the one given, which the caller writes, are written by their clerks.
func (s *supervisor) refill(own *queue) {
	for _, q := range s.queues {
		if s.pump(q) && q != own {
			q.clerk.wake()
		}
	}
}

// pump claims the attempts of a queue that may begin, and says whether there
// were any. They begin when the claims are in the journal: without one a second
// supervisor could begin them again.
func (s *supervisor) pump(q *queue) (some bool) {
	for _, p := range q.pools {
		for len(p.waiting) > 0 && p.room() && s.room(q) {
			a := p.waiting[0]
			p.waiting[0] = nil
			p.waiting = p.waiting[1:]
			p.running++
			q.forking++
			s.active++
			a.phase, a.pool, some = claimed, p, true
			q.record(a, a.claim, sequel{must: true, do: func() { s.mayFork(a) }})
		}
	}
	return some
}

// room says whether the supervisor can take on one more attempt of the queue.
func (s *supervisor) room(q *queue) bool {
	return q.forking < maxForking && s.stuck < maxStuck && s.active < s.maxActive && !s.ends()
}

// ends says whether the supervisor is about to leave. Its clerks may have gone by
// then: a claim would be written when no runner is left, and be taken for an attempt
// that was lost.
func (s *supervisor) ends() bool {
	select {
	case <-s.left:
		return true
	default:
		return s.leaving
	}
}

// mayFork hands a claimed attempt to the runners, unless it was stopped before
// its claim was written.
func (s *supervisor) mayFork(a *attempt) {
	if a.phase == claimed {
		a.durable = true
		s.ready = append(s.ready, a)
	}
}

// getStuck gives the place of an attempt that hangs before it is a process to
// another one.
func (s *supervisor) getStuck(a *attempt) {
	a.stuck = true
	a.queue.forking--
	s.stuck++
	s.log.Warn("a task takes long to start: its directory, its program or its log is on a file system that does not answer",
		"queue", a.queue.id, "task", a.ref.Seq, "attempt", a.ref.Attempt)
}

// doneForking takes an attempt out of those between claim and process.
func (s *supervisor) doneForking(a *attempt) {
	if a.stuck {
		s.stuck--
	} else {
		a.queue.forking--
	}
	a.stuck, a.forkAt = false, 0
}
