package process

import (
	"errors"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

var _ = failpoint.Declare("supervisor-exit-seen", "supervisor-exit-written")

// reaped is what wait4(2) told about a child.
type reaped struct {
	status unix.WaitStatus
	usage  unix.Rusage
}

// reapLoop waits for children until the supervisor leaves. It looks first and
// takes the child away under the lock, so that whoever holds the lock knows
// that the pid of a running attempt is still that process and no other.
func (s *supervisor) reapLoop() {
	for {
		pid, err := peekChild()
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil: // no children
			if !s.waitForChildren() {
				return
			}
		case !s.reap(pid):
			return
		}
	}
}

// waitForChildren returns when there may be children again, and false when the
// supervisor leaves.
func (s *supervisor) waitForChildren() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.byPid) == 0 && !s.leaving {
		s.children.Wait()
	}
	return !s.leaving
}

func (s *supervisor) reap(pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var r reaped
	if _, err := unix.Wait4(pid, &r.status, unix.WNOHANG, &r.usage); err != nil {
		return !s.leaving // ForkExec took it: its exec(2) had failed
	}
	failpoint.Here("supervisor-exit-seen")
	if a := s.byPid[pid]; a != nil {
		s.exited(a, r, orphans())
	} else if s.forking > 0 {
		s.early[pid] = r
	} else {
		s.ender.wake() // an orphan: perhaps the last that an attempt waits for
	}
	return !s.leaving
}

// peekChild waits until a child has ended and returns its pid. It stays a
// zombie.
func peekChild() (int, error) {
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		return 0, err
	}
	return siginfoPid(&info), nil
}

// siginfoPid reads si_pid, which package unix leaves unnamed. It follows three
// ints, and where pointers have eight bytes a gap.
func siginfoPid(info *unix.Siginfo) int {
	const offset = 8 + unsafe.Sizeof(uintptr(0))
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), offset)))
}

// orphans says whether processes were left to us by parents that ended. The
// kernel gives them to the main thread, which has no children of its own making
// because spawners keep off it. So one system call tells, and not a walk
// through /proc. From any other thread it cannot tell, and the answer is yes.
func orphans() bool {
	if unix.Gettid() != os.Getpid() {
		return true
	}
	err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WNOTHREAD, nil)
	return !errors.Is(err, unix.ECHILD)
}

// wakeReaper gets the reaper out of waitid(2) when the supervisor leaves and
// tasks go on. Only the end of a child does that.
func (s *supervisor) wakeReaper() {
	exe, err := os.Executable()
	if err == nil {
		var p *os.Process
		p, err = os.StartProcess(exe, []string{exe, SupervisorArg, flagNothing}, &os.ProcAttr{})
		if err == nil {
			err = p.Release()
		}
	}
	if err != nil {
		s.log.Error("cannot wake the reaper; leaving takes until a task ends", "error", err)
	}
}

// exited takes in the end of an attempt's main process. What it left behind is
// ended before the end is reported, since the attempt's resources are given to
// others then.
func (s *supervisor) exited(a *attempt, r reaped, orphans bool) {
	delete(s.byPid, a.proc.pid)
	s.mainGone(a, s.endOf(a, r))
	if a.proc.cgroup != nil {
		orphans = a.proc.cgroup.populated()
	}
	if orphans {
		s.beginEnding(a, leftoverGrace)
		return
	}
	s.finish(a, a.proc.exit)
}

// leftoverGrace is how long what a program left behind may take to end.
const leftoverGrace = time.Second

// mainGone notes how the main process ended.
func (s *supervisor) mainGone(a *attempt, end *supervisorpb.End) {
	p := &a.proc
	p.gone, p.exit = true, end
	end.At = int64(now())
	end.Unprompted = !a.stop.signalled
	if p.log != nil {
		var st unix.Stat_t
		if unix.Fstat(int(p.log.Fd()), &st) == nil {
			end.LogBytes = st.Size
		}
		_ = p.log.Close() // nothing was written through it
		p.log = nil
	}
}

// endOf turns what the kernel said into an end.
func (s *supervisor) endOf(a *attempt, r reaped) *supervisorpb.End {
	end := &supervisorpb.End{
		Kind:   supervisorpb.End_KIND_EXITED,
		MaxRss: r.usage.Maxrss * 1024,
		CpuNs:  r.usage.Utime.Nano() + r.usage.Stime.Nano(),
	}
	setStatus(end, r.status)
	if r.status.Signaled() && r.status.Signal() == unix.SIGKILL && !a.stop.signalled {
		end.OutOfMemory = a.proc.cgroup.oomKilled() || s.oom.read() > a.proc.oomBefore
	}
	return end
}

func setStatus(end *supervisorpb.End, ws unix.WaitStatus) {
	if ws.Signaled() {
		end.Signal = int32(ws.Signal())
		end.ExitCode = -1
		return
	}
	end.ExitCode = int32(ws.ExitStatus())
}

// finish ends an attempt: its end goes into the journal, its place to the next
// in line, and the report to its queue.
func (s *supervisor) finish(a *attempt, end *supervisorpb.End) {
	if end.At == 0 {
		end.At = int64(now())
	}
	a.end, a.phase, a.ending.active = end, ended, false
	a.start, a.env = nil, nil
	a.proc.cgroup.release()
	a.proc.cgroup = nil
	q := a.queue
	q.journal.add(a.name, end)
	if a.pool != nil {
		a.pool.running--
		a.pool = nil
	}
	s.pump()
	s.commit(q)
	failpoint.Here("supervisor-exit-written")
	q.touch(a)
}
