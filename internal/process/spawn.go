package process

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

var _ = failpoint.Declare("supervisor-claimed", "supervisor-forked")

// spawnLoop starts attempts, one after the other. A few such loops run, so that
// one exec(2) that hangs on a dead file server does not hold up the rest, and
// so that two tasks can begin at once.
func (s *supervisor) spawnLoop() {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The kernel hands orphans to the main thread; it may have no children of
		// its own making (see orphans). Keep it busy and go elsewhere.
		elsewhere := make(chan struct{})
		go func() {
			defer close(elsewhere)
			s.spawnLoop()
		}()
		<-elsewhere
		return
	}
	// Whoever started us may have blocked signals; a task begins without that.
	var none unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil); err != nil {
		s.log.Warn("cannot unblock signals for tasks", "error", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		s.log.Error("cannot open the null device; nothing can be started", "error", err)
		return
	}
	defer null.Close() //nolint:errcheck // only read from
	for {
		a := s.next()
		if a == nil {
			return
		}
		failpoint.Here("supervisor-claimed")
		p, end := s.fork(a, null)
		failpoint.Here("supervisor-forked")
		s.forked(a, p, end)
	}
}

// next waits for an attempt that may begin. It is in the journal as claimed
// then. nil means that the supervisor leaves.
func (s *supervisor) next() *attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	s.pump()
	for len(s.ready) == 0 && !s.leaving {
		s.work.Wait()
	}
	s.free--
	if len(s.ready) == 0 {
		return nil
	}
	a := s.ready[0]
	s.ready = s.ready[1:]
	return a
}

// pump claims as many waiting attempts as there are free spawners, and writes
// their claims with all else that the journal has collected. No more than
// that: who is claimed and not yet forked when the supervisor is killed is
// lost, who still waits is not.
func (s *supervisor) pump() {
	room := s.free - len(s.ready)
	for _, q := range s.queues {
		var taken []*attempt
		for _, p := range q.pools {
			for room > len(taken) && len(p.waiting) > 0 && p.room() && !s.leaving {
				a := p.waiting[0]
				p.waiting[0] = nil
				p.waiting = p.waiting[1:]
				p.running++
				a.phase, a.pool = claimed, p
				q.journal.add(a.name, a.claim)
				taken = append(taken, a)
			}
		}
		room -= len(taken)
		s.commitClaims(q, taken)
	}
}

func (s *supervisor) commitClaims(q *queue, taken []*attempt) {
	err := q.journal.commit()
	if err != nil {
		s.log.Error("journal", "queue", q.id, "error", err)
	}
	for _, a := range taken {
		if err != nil {
			// Without a claim it must not begin, or a second supervisor could begin it again.
			s.finish(a, &supervisorpb.End{
				Kind: supervisorpb.End_KIND_NOT_STARTED, ExitCode: -1,
				Message: fmt.Sprintf("cannot be recorded as started on %s: %v", s.host, err),
			})
			continue
		}
		s.forking++
		s.ready = append(s.ready, a)
		s.work.Signal()
	}
}

// fork opens the log and starts the program. The result is either a process or
// the reason why there is none.
func (s *supervisor) fork(a *attempt, null *os.File) (proc, *supervisorpb.End) {
	st := a.start
	p := proc{child: true, oomBefore: s.oom.last()}
	dir := string(st.GetDir())
	if end := checkDir(dir, s.host); end != nil {
		return p, end
	}
	argv := texts(st.GetArgv())
	env := a.environ()
	path, end := lookPath(argv[0], dir, env)
	if end != nil {
		return p, end
	}
	log, err := os.OpenFile(string(st.GetLogPath()), os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return p, notStarted("cannot open the log on %s: %v", s.host, err)
	}
	p.log = log
	if err := s.exec(&p, path, argv, env, dir, null); err != nil {
		p.cgroup.release()
		p.cgroup = nil
		_ = log.Close() // nothing was written to it
		p.log = nil
		return p, execFailure(err, path, s.host)
	}
	if a.queue.nice != 0 {
		// The group, so that what it forked in the meantime is covered too.
		if err := unix.Setpriority(unix.PRIO_PGRP, p.pid, a.queue.nice); err != nil && !errors.Is(err, unix.ESRCH) {
			s.log.Warn("cannot set nice level", "task", a.ref.Seq, "nice", a.queue.nice, "error", err)
		}
	}
	return p, nil
}

// exec forks and executes, in a cgroup where there are any.
func (s *supervisor) exec(p *proc, path string, argv, env []string, dir string, null *os.File) error {
	sys := syscall.SysProcAttr{Setsid: true}
	if p.cgroup = s.cgroups.take(); p.cgroup != nil {
		sys.UseCgroupFD, sys.CgroupFD = true, p.cgroup.fd()
	}
	fd := p.log.Fd()
	attr := syscall.ProcAttr{Dir: dir, Env: env, Files: []uintptr{null.Fd(), fd, fd}, Sys: &sys}
	p.at = now()
	begin := bootNow()
	pid, err := syscall.ForkExec(path, argv, &attr)
	if err != nil && p.cgroup != nil && !programsFault(err) {
		s.log.Warn("cannot start in a cgroup; going on without", "error", err)
		s.cgroups.disable()
		p.cgroup.release()
		p.cgroup, sys.UseCgroupFD = nil, false
		begin = bootNow()
		pid, err = syscall.ForkExec(path, argv, &attr)
	}
	if errors.Is(err, syscall.ENOEXEC) {
		// A script without "#!": a shell would run it by itself.
		argv = append([]string{"/bin/sh", path}, argv[1:]...)
		begin = bootNow()
		pid, err = syscall.ForkExec("/bin/sh", argv, &attr)
	}
	p.pid, p.began, p.from, p.to = pid, begin, begin.ticks(), bootNow().ticks()
	return err
}

// forked records what became of a claimed attempt.
func (s *supervisor) forked(a *attempt, p proc, end *supervisorpb.End) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := a.queue
	s.forking--
	a.start, a.env = nil, nil
	if end != nil {
		s.finish(a, end)
		s.settleForks()
		return
	}
	a.proc, a.phase = p, running
	q.journal.add(a.name, &supervisorpb.Started{
		Pid: int32(p.pid), TicksFrom: p.from, TicksTo: p.to, BootNs: int64(p.began), At: int64(p.at), Cgroup: p.cgroup.path(),
	})
	s.commit(q)
	s.byPid[p.pid] = a
	s.children.Signal()
	q.touch(a)
	if r, ok := s.early[p.pid]; ok {
		delete(s.early, p.pid)
		s.exited(a, r, true)
	}
	s.settleForks()
	s.keepFor(a)
	if a.stop.begun() {
		s.ender.wake()
	}
}

// settleForks drops what nobody claimed of the children that ended early: they
// were orphans, or failed in exec(2).
func (s *supervisor) settleForks() {
	if s.forking == 0 {
		clear(s.early)
	}
}

// commit writes the journal. What cannot be written is still reported: a later
// supervisor would then not know the end, but the queue does.
func (s *supervisor) commit(q *queue) {
	if err := q.journal.commit(); err != nil {
		s.log.Error("journal", "queue", q.id, "error", err)
	}
}

// environ returns the whole environment of the program.
func (a *attempt) environ() []string {
	extra := a.start.GetExtraEnv()
	env := make([]string, 0, len(a.env)+len(extra)+1)
	env = append(env, a.env...)
	for _, e := range extra {
		env = append(env, string(e))
	}
	return append(env, markerVar+"="+marker(a.queue.id, a.ref))
}

func texts(bs [][]byte) []string {
	out := make([]string, len(bs))
	for i, b := range bs {
		out[i] = string(b)
	}
	return out
}

// programsFault says whether exec(2) failed because of what was to be run.
func programsFault(err error) bool {
	for _, e := range []error{
		syscall.ENOENT, syscall.EACCES, syscall.ENOEXEC, syscall.E2BIG, syscall.ENOTDIR, syscall.ELOOP,
		syscall.ENAMETOOLONG, syscall.EISDIR, syscall.ELIBBAD, syscall.ETXTBSY, syscall.EINVAL,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// execFailure turns an error of fork(2) or exec(2) into an end.
func execFailure(err error, path, host string) *supervisorpb.End {
	switch {
	case errors.Is(err, syscall.E2BIG):
		return userFault(126, "the command and its environment are longer than the kernel of %s allows: put long data into the payload or a file", host)
	case errors.Is(err, syscall.ENOENT):
		// The file was there a moment ago, so it is its interpreter that is not.
		return userFault(127, "cannot run %s on %s: its interpreter (the first line of the script, or the loader of the binary) does not exist there", path, host)
	case programsFault(err):
		return userFault(126, "cannot run %s on %s: %v", path, host, err)
	default:
		return notStarted("cannot start a process on %s: %v", host, err)
	}
}

func userFault(code int32, format string, args ...any) *supervisorpb.End {
	return &supervisorpb.End{
		Kind: supervisorpb.End_KIND_EXITED, ExitCode: code, Unprompted: true,
		Message: strings.ToValidUTF8(fmt.Sprintf(format, args...), "?"),
	}
}

func notStarted(format string, args ...any) *supervisorpb.End {
	return &supervisorpb.End{
		Kind: supervisorpb.End_KIND_NOT_STARTED, ExitCode: -1,
		Message: strings.ToValidUTF8(fmt.Sprintf(format, args...), "?"),
	}
}

