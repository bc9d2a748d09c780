package process

import (
	"time"

	"golang.org/x/sys/unix"

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

// mainGone notes how the main process ended.
func (s *supervisor) mainGone(a *attempt, end *supervisorpb.End) {
	p := &a.proc
	p.gone, p.exit = true, end
	end.At = int64(now())
	end.Unprompted = !a.stop.signalled
	if p.log >= 0 {
		var st unix.Stat_t
		if unix.Fstat(p.log, &st) == nil {
			end.LogBytes = st.Size
		}
	}
}

// endOf turns what the kernel said into an end.
func (s *supervisor) endOf(a *attempt, r reaped) *supervisorpb.End {
	if r.err != nil {
		return s.unseenEnd(a)
	}
	end := &supervisorpb.End{
		Kind:   supervisorpb.End_KIND_EXITED,
		MaxRss: ownPeak(r.usage.Maxrss),
		CpuNs:  r.usage.Utime.Nano() + r.usage.Stime.Nano(),
	}
	s.setStatus(a, end, r.status)
	return end
}

// ownPeak returns the peak memory of a child in bytes, or 0 when it cannot be
// told: the kernel counts from before exec(2), where the child still has our
// memory, so what is not above our own peak says nothing about the program.
func ownPeak(childKiB int64) int64 {
	var us unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &us); err != nil || childKiB <= us.Maxrss {
		return 0
	}
	return childKiB * 1024
}

// setStatus puts a wait status into an end. A SIGKILL that is not ours is the
// kernel's when it counted a process that it killed for lack of memory since
// the attempt began.
func (s *supervisor) setStatus(a *attempt, end *supervisorpb.End, ws unix.WaitStatus) {
	if !ws.Signaled() {
		end.ExitCode = int32(ws.ExitStatus())
		return
	}
	end.Signal, end.ExitCode = int32(ws.Signal()), -1
	if ws.Signal() == unix.SIGKILL && !a.stop.signalled {
		end.OutOfMemory = a.proc.cgroup.oomKilled() || s.oom.read() > a.proc.oomBefore
	}
}

// unseenEnd is the end of an attempt that may have run, and that nobody saw.
func (s *supervisor) unseenEnd(a *attempt) *supervisorpb.End {
	return vanished("ran on %s as pid %d; its end was not seen because the supervisor had been killed", s.host, a.proc.pid)
}
