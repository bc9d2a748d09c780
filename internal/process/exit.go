package process

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// leftoverGrace is how long what a program left behind may take to end.
const leftoverGrace = time.Second

// reaped is what wait4(2) told about a child.
type reaped struct {
	status unix.WaitStatus
	usage  unix.Rusage
	err    error
}

// reap takes note of the end of a child.
func (s *supervisor) reap(a *attempt) departure {
	var r reaped
	r.err = wait(a.proc.pid, &r)
	left := s.leftBehind(&a.proc)
	failpoint.Here("supervisor-exit-seen")
	s.mu.Lock()
	defer s.mu.Unlock()
	closeFD(&a.proc.pidfd)
	return s.mainGone(a, s.endOf(a, r), left)
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

// mainGone notes how the main process ended. Nothing more happens to the attempt
// until the departure, which the caller takes over, has been seen to.
func (s *supervisor) mainGone(a *attempt, end *supervisorpb.End, left bool) departure {
	p := &a.proc
	p.gone, p.exit = true, end
	end.At = int64(now())
	end.Unprompted = !a.stop.signalled
	a.departing = true
	d := departure{a: a, log: p.log, left: left}
	p.log = -1
	return d
}

// sendOff hands a departure to the clerk, for those who may not wait for a file
// system.
func (q *queue) sendOff(d departure) {
	q.leaving = append(q.leaving, d)
	q.clerk.wake()
}

// endOf turns what the kernel said into an end.
func (s *supervisor) endOf(a *attempt, r reaped) *supervisorpb.End {
	if r.err != nil {
		return s.unseenEnd(a)
	}
	end := &supervisorpb.End{
		Kind:   supervisorpb.End_KIND_EXITED,
		MaxRss: s.ownPeak(r.usage.Maxrss),
		CpuNs:  r.usage.Utime.Nano() + r.usage.Stime.Nano(),
	}
	s.setStatus(a, end, r.status)
	return end
}

// ownPeak returns the peak memory of a child in bytes, or 0 when it cannot be
// told: the kernel counts from before exec(2), where the child still has our
// memory, so what is not above our own peak says nothing about the program.
func (s *supervisor) ownPeak(childKiB int64) int64 {
	if childKiB <= s.peak.Load() { // a peak does not sink, so the last one tells enough
		return 0
	}
	var us unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &us); err != nil {
		return 0
	}
	s.peak.Store(us.Maxrss)
	if childKiB <= us.Maxrss {
		return 0
	}
	return childKiB * 1024
}

// killedInShell is the exit code of a shell whose last command was killed.
const killedInShell = 128 + int(unix.SIGKILL)

// setStatus puts a wait status into an end. A SIGKILL that is not ours was for
// lack of memory when the attempt's own cgroup counted one. Any other count is of
// others as well, so it makes a hint and not a reason.
func (s *supervisor) setStatus(a *attempt, end *supervisorpb.End, ws unix.WaitStatus) {
	if !ws.Signaled() {
		end.ExitCode = int32(ws.ExitStatus())
		end.OutOfMemory = ws.ExitStatus() == killedInShell && !a.stop.signalled && a.proc.cgroup.oomKilled()
		return
	}
	end.Signal, end.ExitCode = int32(ws.Signal()), -1
	if ws.Signal() != unix.SIGKILL || a.stop.signalled {
		return
	}
	if end.OutOfMemory = a.proc.cgroup.oomKilled(); !end.OutOfMemory {
		end.Message = s.killedText(&a.proc)
	}
}

// unseenEnd is the end of an attempt that may have run, and that nobody saw.
func (s *supervisor) unseenEnd(a *attempt) *supervisorpb.End {
	return vanished("ran on %s as pid %d; its end was not seen because the supervisor had been killed", s.where.Name, a.proc.pid)
}
