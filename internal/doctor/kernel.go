package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// checkKernel tries what the supervisor uses of the kernel. A container or a
// sandbox can lack what the kernel has.
func checkKernel(ctx context.Context, _ *examination) []Finding {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return bad(Warning, "the kernel does not tell its release: "+err.Error(), "")
	}
	release := "Linux " + unix.ByteSliceToString(name.Release[:])
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return bad(Warning, fmt.Sprintf("%s without pidfds (%s): running tasks are looked at from time to time, and seen to end a little later", release, err), "Linux 5.3 has them, where no sandbox forbids them")
	}
	_ = unix.Close(fd) // only asked
	if err := tellsEnds(ctx); err != nil {
		return bad(Note, fmt.Sprintf("%s: if the supervisor is killed with -9, how its tasks end is not told (%s), and they are lost once they do", release, err), "Linux 6.15 tells it")
	}
	return good("%s has pidfds, and tells how processes end that are not our children", release)
}

var errNotTold = errors.New("the kernel keeps no exit code")

// tellsEnds has a process end and asks the kernel how, when it is our child no more.
func tellsEnds(ctx context.Context) error {
	fd := -1
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", ":")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &fd}
	if err := cmd.Run(); err != nil {
		return err
	}
	if fd < 0 {
		return errNotTold
	}
	defer unix.Close(fd) //nolint:errcheck // only asked
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	err := unix.IoctlPidfdInfo(fd, &info)
	if err == nil && info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		err = errNotTold
	}
	return err
}

// checkCgroup says whether each task can have a cgroup of its own: where the
// supervisor is, or else where we are, and would start it.
func checkCgroup(_ context.Context, x *examination, _ config.Config) []Finding {
	pid, whose := os.Getpid(), "this shell's cgroup"
	if l, err := x.supervisor(); x.SupervisorSocket != "" && err == nil {
		pid, whose = l.pid, "the supervisor's cgroup"
	}
	const then = ": a program that clears its environment and leaves its session can outlive its task"
	const mend = "nothing, unless you run such programs; then start the daemon in a scope of its own: systemd-run --user --scope -p Delegate=yes dspy-agent start"
	dir, _ := cgroupDir(x.Root, pid, "")
	if dir == "" {
		return bad(Note, "no cgroup v2 is to be seen here"+then, "")
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return bad(Note, fmt.Sprintf("%s, %s, is not delegated to us (%s)%s", whose, dir, err, then), mend)
	}
	return good("each task can have a cgroup of its own, below %s", dir)
}
