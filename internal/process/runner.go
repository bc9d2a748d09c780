package process

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

var _ = failpoint.Declare("supervisor-claimed", "supervisor-forked", "supervisor-exit-seen", "supervisor-exit-written")

const (
	// maxForking bounds how many attempts are between claim and process. Those
	// are the ones that may be lost when the supervisor is killed.
	maxForking = 8
	// maxIdleRunners is how many runners are kept for the next attempt.
	maxIdleRunners = 8
)

// A runner is a thread that starts an attempt, waits for its end, and goes on
// with the next in line: nothing is handed from thread to thread for each task,
// and an exec(2) that hangs on a dead file server holds up nobody else.
func (s *supervisor) runner() {
	// For good: the kernel counts children by thread, and the main thread, which
	// never runs this, has to stay without any (see orphans). The thread ends
	// with the goroutine.
	runtime.LockOSThread()
	// Whoever started us may have blocked signals; a task begins without that.
	var none unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil); err != nil {
		s.log.Warn("cannot unblock signals for tasks", "error", err)
	}
	for a := s.next(); a != nil; a = s.next() {
		for a != nil {
			a = s.run(a)
		}
	}
}

// next waits for an attempt that is claimed. nil means that this runner is not
// needed any more.
func (s *supervisor) next() *attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ready) == 0 && s.idle >= maxIdleRunners {
		return nil
	}
	s.idle++
	for len(s.ready) == 0 && !s.leaving {
		s.work.Wait()
	}
	s.idle--
	return s.takeReady()
}

func (s *supervisor) takeReady() *attempt {
	if len(s.ready) == 0 {
		return nil
	}
	a := s.ready[0]
	s.ready[0] = nil
	s.ready = s.ready[1:]
	return a
}

// run takes one attempt from its claim to the end of its main process, and
// returns the attempt that the runner goes on with.
func (s *supervisor) run(a *attempt) *attempt {
	failpoint.Here("supervisor-claimed")
	p, end := s.fork(a)
	failpoint.Here("supervisor-forked")
	if end != nil {
		return s.failed(a, end)
	}
	s.began(a, p)
	if !s.await(p.pidfd) {
		return nil // the supervisor leaves; the task goes on
	}
	var r reaped
	r.err = wait(p.pid, &r)
	left := s.leftBehind(&a.proc)
	failpoint.Here("supervisor-exit-seen")
	return s.exited(a, r, left)
}

// failed ends an attempt that did not become a process.
func (s *supervisor) failed(a *attempt, end *supervisorpb.End) *attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forking--
	s.finish(a, end)
	next := s.takeReady()
	s.employ() // there is room for one more between claim and process, of whatever queue
	return next
}

// began records the process of a claimed attempt.
func (s *supervisor) began(a *attempt, p proc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forking--
	a.start, a.env = nil, nil
	a.proc, a.phase = p, running
	a.queue.journal.add(a.name, a.startedRecord())
	s.pump(a.queue)
	a.queue.touch(a)
	s.keepFor(a)
	if a.stop.begun() {
		s.beginEnding(a, a.grace())
	}
	s.employ()
}

// exited takes in the end of an attempt's main process. What it left behind is
// ended before the end is reported, since the attempt's resources are given to
// others then.
func (s *supervisor) exited(a *attempt, r reaped, left bool) *attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	closeFD(&a.proc.pidfd)
	s.mainGone(a, s.endOf(a, r))
	if left {
		s.beginEnding(a, leftoverGrace)
	} else {
		s.finish(a, a.proc.exit)
	}
	next := s.takeReady()
	s.employ()
	return next
}

// finish ends an attempt: its end goes into the journal, its place to the next
// in line, and the report to its queue.
func (s *supervisor) finish(a *attempt, end *supervisorpb.End) {
	if end.At == 0 {
		end.At = int64(now())
	}
	a.end, a.phase, a.ending.active = end, ended, false
	a.start, a.env = nil, nil
	closeFD(&a.proc.log)
	a.proc.cgroup.release()
	a.proc.cgroup = nil
	a.queue.journal.add(a.name, end)
	if a.pool != nil {
		a.pool.running--
		a.pool = nil
	}
	s.pump(a.queue)
	failpoint.Here("supervisor-exit-written")
	a.queue.touch(a)
}

// pump claims the attempts of a queue that may begin, and writes their claims
// together with all else that its journal has collected.
func (s *supervisor) pump(q *queue) {
	var taken []*attempt
	for _, p := range q.pools {
		for s.forking+len(taken) < maxForking && len(p.waiting) > 0 && p.room() && !s.leaving {
			a := p.waiting[0]
			p.waiting[0] = nil
			p.waiting = p.waiting[1:]
			p.running++
			a.phase, a.pool = claimed, p
			q.journal.add(a.name, a.claim)
			taken = append(taken, a)
		}
	}
	err := s.commit(q)
	for _, a := range taken {
		if err == nil {
			s.forking++
			s.ready = append(s.ready, a)
			continue
		}
		// Without a claim it must not begin, or a second supervisor could begin it again.
		s.finish(a, notStarted("cannot be recorded as started on %s: %v", s.host, err))
	}
}

// commit writes a journal. An end that cannot be written is still reported: a
// later supervisor would then not know it, but the queue does.
func (s *supervisor) commit(q *queue) error {
	err := q.journal.commit()
	if err != nil {
		s.log.Error("journal", "queue", q.id, "error", err)
	}
	return err
}

// employ finds runners for the attempts that are ready.
func (s *supervisor) employ() {
	if s.forking < maxForking {
		for _, q := range s.queues {
			if q.waiting() {
				s.pump(q)
			}
		}
	}
	for range min(len(s.ready), s.idle) {
		s.work.Signal()
	}
	for range len(s.ready) - s.idle {
		s.wg.Go(s.runner)
	}
}

// await waits until the process has ended. It returns false when the supervisor
// leaves before that.
func (s *supervisor) await(pidfd int) bool {
	if pidfd < 0 {
		return true // no pidfds on this kernel: wait(2) waits, and nothing interrupts it
	}
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}, {Fd: int32(s.leaveFD), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err != nil || fds[0].Revents != 0
	}
}

// wait reaps a child.
func wait(pid int, r *reaped) error {
	for {
		_, err := unix.Wait4(pid, &r.status, 0, &r.usage)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// startedRecord is the journal's record of the attempt's process.
func (a *attempt) startedRecord() *supervisorpb.Started {
	p := &a.proc
	return &supervisorpb.Started{
		Pid: int32(p.pid), TicksFrom: p.from, TicksTo: p.to, BootNs: int64(p.began), At: int64(p.at), Cgroup: p.cgroup.path(),
	}
}
