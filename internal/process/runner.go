package process

import (
	"errors"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

var _ = failpoint.Declare("supervisor-claimed", "supervisor-forked", "supervisor-exit-seen", "supervisor-exit-written")

const (
	// runnersKept is how many runners there are for each queue as long as none of
	// them hangs.
	runnersKept = maxForking
	// mostRunners is how many there can be: all others hang in open(2), exec(2) or
	// write(2), on a file server that does not answer.
	mostRunners = 64
)

// A runner is a thread that starts an attempt, waits for its end, and goes on
// with the next in line: nothing is handed from thread to thread for each task,
// and an exec(2) that hangs on a dead file server holds up nobody else. When
// there are more attempts than runners, a runner hands the one that it waits for
// to the follower, which waits for any number in one thread.
type runner struct {
	*supervisor
	busy atomic.Int64 // bootTime since when it does what should take no time; 0 = it waits
}

// loop is the thread, until the supervisor leaves.
func (r *runner) loop() {
	// For good: the kernel counts children by thread, and the main thread, which
	// never runs this, has to stay without any (see orphans). A thread that ends
	// gives its children to that one, so none ends before the supervisor does.
	runtime.LockOSThread()
	// Whoever started us may have blocked signals; a task begins without that.
	var none unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil); err != nil {
		r.log.Warn("cannot unblock signals for tasks", "error", err)
	}
	for a := r.next(); a != nil; a = r.next() {
		for a != nil {
			a = r.run(a)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.crew, r)
}

// next waits for an attempt that is claimed. nil means that the supervisor
// leaves: what is claimed begins before that, since the next supervisor would
// have to take it for lost.
func (r *runner) next() *attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle++
	r.busy.Store(0)
	for len(r.ready) == 0 && !r.leaving {
		r.work.Wait()
	}
	r.idle--
	return r.takeReady()
}

func (s *supervisor) takeReady() *attempt {
	if len(s.ready) == 0 {
		return nil
	}
	a := s.ready[0]
	s.ready[0] = nil
	s.ready = s.ready[1:]
	a.forkAt = bootNow()
	return a
}

// hire finds runners for the attempts that are ready: idle ones, new ones, and
// then those that only wait for a process to end. The supervisor's mutex is held.
func (s *supervisor) hire() {
	lack := len(s.ready)
	for range min(lack, s.idle) {
		s.work.Signal()
	}
	lack -= s.idle
	most := min(runnersKept*len(s.queues)+s.hung, mostRunners)
	for ; lack > 0 && len(s.crew) < most; lack-- {
		r := &runner{supervisor: s}
		s.crew[r] = struct{}{}
		s.wg.Go(r.loop)
	}
	if n := min(lack, s.waiting) - s.called; n > 0 {
		s.called += n
		signalFD(s.needFD, n)
	}
}

// countHung finds the runners in whose place there may be others. The
// supervisor's mutex is held.
func (s *supervisor) countHung(at bootTime) {
	s.hung = 0
	for r := range s.crew {
		if since := bootTime(r.busy.Load()); since != 0 && since.add(stuckAfter) <= at {
			s.hung++
		}
	}
}

// run takes one attempt from its claim to the end of its main process, or until
// the runner is needed for another one, and returns that.
func (r *runner) run(a *attempt) *attempt {
	r.busy.Store(int64(bootNow()))
	failpoint.Here("supervisor-claimed")
	p, end := r.fork(a)
	failpoint.Here("supervisor-forked")
	if end != nil {
		r.failed(a, end)
		return r.flush(a.queue, true)
	}
	r.began(a, p)
	r.flush(a.queue, false)
	switch r.await(p.pidfd) {
	case childEnded:
		r.depart(r.reap(a))
	case runnerNeeded:
		r.followers.addChild(a)
	case supervisorLeaves:
		return nil // the task goes on
	}
	return r.flush(a.queue, true)
}

// failed ends an attempt that did not become a process.
func (s *supervisor) failed(a *attempt, end *supervisorpb.End) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doneForking(a)
	s.finish(a, end)
	s.refill(a.queue)
}

// began records the process of a claimed attempt.
func (s *supervisor) began(a *attempt, p proc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doneForking(a)
	a.start, a.env = nil, nil
	a.proc, a.phase = p, running
	a.queue.record(a, a.startedRecord(), sequel{})
	a.queue.touch(a)
	s.keepFor(a)
	if a.stop.begun() {
		s.beginEnding(a, a.grace())
	}
	s.refill(a.queue)
}

// finish ends an attempt: its end goes into the journal, its place to the next
// in line, and then the report to its queue. The caller sees to it that the
// journal is written, and that others begin.
func (s *supervisor) finish(a *attempt, end *supervisorpb.End) {
	if end.At == 0 {
		end.At = int64(now())
	}
	if a.phase == claimed || a.phase == running {
		s.active--
	}
	a.end, a.phase, a.ending.active = end, ended, false
	a.start, a.env = nil, nil
	g := a.proc.cgroup
	a.proc.cgroup = nil
	if a.pool != nil {
		a.pool.running--
		a.pool = nil
	}
	// As long as the journal has no end, it says that the cgroup is the attempt's,
	// and the next supervisor would end whoever is in it.
	a.queue.record(a, end, sequel{unwritten: g.spend, do: func() {
		failpoint.Here("supervisor-exit-written")
		g.release()
		a.settled = true
		a.queue.touch(a)
	}})
}

// What await can come back with.
type awaited uint8

const (
	childEnded awaited = iota
	runnerNeeded
	supervisorLeaves
)

// await waits until the process has ended, the runner is needed elsewhere, or
// the supervisor leaves.
func (r *runner) await(pidfd int) awaited {
	if pidfd < 0 || !r.mayWait() {
		return runnerNeeded
	}
	fds := []unix.PollFd{
		{Fd: int32(pidfd), Events: unix.POLLIN}, {Fd: int32(r.leaveFD), Events: unix.POLLIN}, {Fd: int32(r.needFD), Events: unix.POLLIN},
	}
	_, err := unix.Poll(fds, -1)
	for errors.Is(err, unix.EINTR) {
		_, err = unix.Poll(fds, -1)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting--
	r.busy.Store(int64(bootNow()))
	switch {
	case err == nil && fds[0].Revents != 0:
		return childEnded
	case err == nil && fds[1].Revents != 0:
		return supervisorLeaves
	case takeFD(r.needFD):
		r.called--
	}
	return runnerNeeded // or it cannot wait, or somebody else was faster: the follower can
}

// mayWait counts the caller among the runners that wait, unless it is needed.
func (r *runner) mayWait() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ready) > r.idle {
		return false
	}
	r.waiting++
	r.busy.Store(0)
	return true
}

// startedRecord is the journal's record of the attempt's process.
func (a *attempt) startedRecord() *supervisorpb.Started {
	p := &a.proc
	return &supervisorpb.Started{
		Pid: int32(p.pid), TicksFrom: p.from, TicksTo: p.to, BootNs: int64(p.began), At: int64(p.at), Cgroup: p.cgroup.path(),
	}
}
