package process

import (
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"

	"time"

	"golang.org/x/sys/unix"
)

// A clerk does for one queue what touches its file system, except to begin a
// task: it writes the journal, looks at the output of tasks, and closes their
// logs. A file server that hangs holds up this clerk and nobody else.

// departure is an attempt whose main process has ended, on the way to its end.
type departure struct {
	a    *attempt
	log  int  // -1 = none
	left bool // processes of it may be left
}

// clerkLoop is the clerk of a queue until the supervisor leaves.
func (s *supervisor) clerkLoop(q *queue) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	again := time.NewTimer(tick)
	defer again.Stop()
	litter := time.NewTimer(sweepGrace)
	defer litter.Stop()
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	cards := time.NewTicker(cardEvery)
	defer cards.Stop()
	for {
		for _, d := range s.departures(q) {
			s.depart(d)
		}
		s.flush(q, false)
		s.openLogs(q)
		if pause, ok := s.writePause(q); ok {
			again.Reset(pause)
		}
		select {
		case <-s.left:
			s.flush(q, false)
			return
		case <-q.clerk:
		case <-again.C:
		case <-ticker.C:
			s.capLogs(q)
			s.restoreSpool(q)
			s.takeOverLater(q)
			s.heedRequests(q)
		case <-cards.C:
			s.show(q, false)
			s.sendOn(q)
			q.freshen()
		case <-litter.C:
			s.sweepSpool(q)
		case <-beat.C:
			s.beat(q)
		}
	}
}

// writePause is how long to wait before the journal is written once more; false
// if nothing has to be.
func (s *supervisor) writePause(q *queue) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.trouble.err == nil {
		return 0, false
	}
	return max(0, time.Duration(q.trouble.retryAt-bootNow())), true
}

// openLater has the clerk open the output of an attempt that was adopted.
func (q *queue) openLater(a *attempt) {
	q.unopened = append(q.unopened, a)
	q.clerk.wake()
}

// openLogs opens the output of attempts that were adopted late.
func (s *supervisor) openLogs(q *queue) {
	for _, l := range s.unopenedLogs(q) {
		fd := openOutput(l.path)
		s.keepLog(l.a, &fd)
		closeFD(&fd) // if nobody needs it any more; without the mutex, since it may take long
	}
}

// unopenedLog is an output that the clerk is to open.
type unopenedLog struct {
	a    *attempt
	path []byte
}

func (s *supervisor) unopenedLogs(q *queue) []unopenedLog {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]unopenedLog, len(q.unopened))
	for i, a := range q.unopened {
		out[i] = unopenedLog{a, a.claim.GetLogPath()}
	}
	q.unopened = nil
	return out
}

// keepLog gives an attempt its output, if it runs and has none.
func (s *supervisor) keepLog(a *attempt, fd *int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.phase == running && !a.proc.gone && a.proc.log < 0 {
		a.proc.log, *fd = *fd, -1
	}
}

// departures takes what the clerk has to see off.
func (s *supervisor) departures(q *queue) []departure {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := q.leaving
	q.leaving = nil
	return out
}

// sizeUnknown stands for the size of an output in an End: there may be a result in
// it all the same.
const sizeUnknown = -1

// depart closes the log of an attempt, and ends the attempt unless something of
// it is left, which is ended first: the attempt's resources are given to others
// then.
func (s *supervisor) depart(d departure) {
	size := int64(sizeUnknown) // until it was handed over again, nobody has said where the log is
	if d.log >= 0 {
		var st unix.Stat_t
		if unix.Fstat(d.log, &st) == nil {
			size = st.Size
		}
		closeFD(&d.log)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := d.a
	a.proc.exit.LogBytes, a.departing = size, false
	if d.left {
		s.beginEnding(a, leftoverGrace)
		return
	}
	s.finish(a, a.proc.exit)
	s.refill(a.queue)
}

// liveLog is the output of a running attempt, for the clerk to look at.
type liveLog struct {
	a    *attempt
	fd   int // the clerk's own
	path string
	cap  int64
}

// capLogs cuts the middle out of the output of attempts that write too much.
func (s *supervisor) capLogs(q *queue) {
	for _, l := range s.liveLogs(q) {
		var st unix.Stat_t
		if unix.Fstat(l.fd, &st) == nil && st.Blocks*512 > l.cap {
			if err := taskfiles.CutLog(l.fd, l.path, st.Size, l.cap); err != nil {
				s.log.Error("cannot bound the output of a task", "queue", q.id, "task", l.a.ref.Seq, "error", err)
			}
		}
		closeFD(&l.fd)
	}
}

// liveLogs returns the logs of those that have run for a while. The descriptors
// are copies, since an attempt may end meanwhile.
func (s *supervisor) liveLogs(q *queue) []liveLog {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.logCap <= 0 {
		return nil
	}
	var out []liveLog
	at := bootNow()
	for _, a := range q.attempts {
		p := &a.proc
		if a.phase != running || p.gone || p.log < 0 || at < p.began.add(tick) {
			continue
		}
		if fd, err := unix.FcntlInt(uintptr(p.log), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			out = append(out, liveLog{a: a, fd: fd, path: string(a.claim.GetLogPath()), cap: q.logCap})
		}
	}
	return out
}
