package process

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// forkExec is a variable so that tests can be on a kernel that refuses.
var forkExec = syscall.ForkExec

// fork opens the log and starts the program. The result is either a process or
// the reason why there is none.
func (s *supervisor) fork(a *attempt) (proc, *supervisorpb.End) {
	st := a.start
	p := proc{log: -1, pidfd: -1, child: true, oomBefore: s.oom.last()}
	dir := string(st.GetDir())
	if end := checkDir(dir, s.where.Name); end != nil {
		return p, end
	}
	argv := texts(st.GetArgv())
	env := a.environ()
	path, end := lookPath(argv[0], dir, env, s.where.Name)
	if end != nil {
		return p, end
	}
	var err error
	if p.log, err = beginLog(string(st.GetLogPath())); err != nil {
		return p, notStarted("cannot open the log on %s: %v", s.where.Name, err)
	}
	if err := s.exec(&p, path, argv, env, dir); err != nil {
		p.cgroup.release()
		p.cgroup = nil
		closeFD(&p.log)
		return p, execFailure(err, path, s.where.Name)
	}
	if a.nice != 0 {
		// The group, so that what it forked in the meantime is covered too.
		if err := unix.Setpriority(unix.PRIO_PGRP, p.pid, a.nice); err != nil && !errors.Is(err, unix.ESRCH) {
			s.log.Warn("cannot set nice level", "task", a.ref.Seq, "nice", a.nice, "error", err)
		}
	}
	return p, nil
}

// beginLog makes the output of an attempt. An attempt is forked at most once, so what has
// the name already is of a queue that was there before this one was restored.
func beginLog(path string) (fd int, err error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_APPEND | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if fd, err = unix.Open(path, flags|unix.O_EXCL, 0o600); !errors.Is(err, unix.EEXIST) {
		return fd, err
	}
	if err := taskfiles.SetAside(path); err != nil {
		return -1, err
	}
	return unix.Open(path, flags, 0o600)
}

// exec forks and executes, in a cgroup where there are any.
func (s *supervisor) exec(p *proc, path string, argv, env []string, dir string) error {
	sys := syscall.SysProcAttr{Setsid: true}
	if forkWithPidfd {
		sys.PidFD = &p.pidfd
	}
	if p.cgroup = s.cgroups.take(); p.cgroup != nil {
		sys.UseCgroupFD, sys.CgroupFD = true, p.cgroup.fd()
	}
	fd := uintptr(p.log)
	attr := syscall.ProcAttr{Dir: dir, Env: env, Files: []uintptr{s.null.Fd(), fd, fd}, Sys: &sys}
	p.at = now()
	begin := bootNow()
	pid, err := forkExec(path, argv, &attr)
	if err != nil && p.cgroup != nil && !programsFault(err) {
		refused := err
		p.cgroup.release()
		p.cgroup, sys.UseCgroupFD = nil, false
		begin = bootNow()
		pid, err = forkExec(path, argv, &attr)
		if err == nil { // else it was not the cgroup's fault, or not alone
			s.refused(refused)
		}
	}
	if errors.Is(err, syscall.ENOEXEC) {
		// A script without "#!": a shell would run it by itself.
		argv = append([]string{"/bin/sh", path}, argv[1:]...)
		begin = bootNow()
		pid, err = forkExec("/bin/sh", argv, &attr)
	}
	p.pid, p.began, p.from, p.to = pid, begin, begin.ticks(), bootNow().ticks()
	return err
}

// refused handles an error of a start in a cgroup, when one without succeeded.
func (s *supervisor) refused(err error) {
	if !cgroupsFault(err) {
		s.log.Warn("cannot start a task in a cgroup; it goes on without", "error", err)
		return
	}
	s.log.Warn("cannot start in a cgroup; going on without", "error", err)
	s.cgroups.disable()
}

// cgroupsFault says whether an error means that the kernel would refuse others
// too. What it lacked for a moment, say memory, says nothing about the next task.
func cgroupsFault(err error) bool {
	for _, e := range []error{syscall.ENOSYS, syscall.EPERM, syscall.EOPNOTSUPP, syscall.EBUSY, syscall.ENODEV} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// closeFD closes a descriptor, if it is open. Nothing that we keep open is
// written through by us, so there is no error to care about.
func closeFD(fd *int) {
	if *fd >= 0 {
		_ = unix.Close(*fd)
		*fd = -1
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

func vanished(format string, args ...any) *supervisorpb.End {
	return &supervisorpb.End{
		Kind: supervisorpb.End_KIND_VANISHED, ExitCode: -1,
		Message: strings.ToValidUTF8(fmt.Sprintf(format, args...), "?"),
	}
}
