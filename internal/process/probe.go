package process

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// probePatience is how long the kernel may take for what it does at once.
const probePatience = 2 * time.Second

// probe tries on a process of our own what tasks will depend on: that one can be
// started in a cgroup, is seen there, can be killed with it, and that the cgroup
// can be removed then. Kernels, containers and seccomp filters lack any of it.
// lacks names what can be done without.
func (c *cgroups) probe() (lacks string, err error) {
	g := c.make()
	if g == nil {
		return "", fmt.Errorf("no cgroup can be made in %s", c.dir)
	}
	child, err := startIn(g)
	if err == nil {
		lacks, err = g.probeWith(child)
	}
	return lacks, errors.Join(err, g.probeRemove())
}

// startIn starts a process in the cgroup that lives until its input ends.
func startIn(g *cgroup) (*exec.Cmd, error) {
	child := exec.Command("/bin/sh", "-c", "read forever")
	if _, err := child.StdinPipe(); err != nil { // closed by Wait
		return nil, err
	}
	child.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: g.fd()}
	if err := child.Start(); err != nil {
		return nil, fmt.Errorf("no process can be started in a cgroup (it takes Linux 5.7, and a seccomp filter that allows clone3): %w", err)
	}
	return child, nil
}

// probeWith looks at the process, and kills and reaps it in any case.
func (g *cgroup) probeWith(child *exec.Cmd) (lacks string, err error) {
	if !slices.Contains(g.pids(), child.Process.Pid) || !g.populated() {
		err = errors.New("a process that was started in a cgroup is not seen there")
	}
	if err != nil || !g.kill() {
		lacks = "cgroup.kill (Linux 5.14): tasks are killed process by process"
		_ = child.Process.Kill() // it is there: nobody has waited for it
	}
	late := time.AfterFunc(probePatience, func() { _ = child.Process.Kill() })
	_ = child.Wait() // the signal that ended it is no error here
	if !late.Stop() {
		err = errors.Join(err, errors.New("cgroup.kill does not kill"))
	}
	return lacks, err
}

// probeRemove removes the cgroup, which is empty as soon as the kernel has seen
// to the end of its last process.
func (g *cgroup) probeRemove() error {
	path := g.dir.Name()
	for end := time.Now().Add(probePatience); g.populated() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	empty := !g.populated()
	g.remove()
	if !empty {
		return errors.New("a cgroup whose processes have ended is not empty")
	}
	if err := unix.Rmdir(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("an empty cgroup cannot be removed: %w", err)
	}
	return nil
}
