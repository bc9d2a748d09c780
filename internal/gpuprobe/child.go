package gpuprobe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is a process whose end is never waited for without a limit: a process
// inside a driver that hangs cannot be ended by any signal.
type child struct {
	pid    int
	stdin  *os.File
	stdout *os.File
	status syscall.WaitStatus // once it is reaped
	gone   bool
}

// launch starts a program with pipes. Its standard error is dropped: what it has
// to say it says on standard output.
func launch(argv, env []string) (c *child, err error) {
	var files []*os.File
	defer func() {
		if err != nil {
			closeAll(files)
		}
	}()
	pipe := func() (r, w *os.File) {
		if err == nil {
			if r, w, err = os.Pipe(); err == nil {
				files = append(files, r, w)
			}
		}
		return r, w
	}
	theirIn, ourIn := pipe()
	ourOut, theirOut := pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipes for %s: %w", argv[0], err)
	}
	// A context would kill it and then wait without a limit; end does not.
	cmd := exec.CommandContext(context.Background(), argv[0], argv[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout = env, theirIn, theirOut
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	closeAll([]*os.File{theirIn, theirOut})
	return &child{pid: cmd.Process.Pid, stdin: ourIn, stdout: ourOut}, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // a pipe: nothing is lost
	}
}

const (
	// lastWords is how long a child may take to end when its input has.
	lastWords = 2 * time.Second
	// killed is how long one may take that was killed.
	killed = 5 * time.Second
	// reapEvery is between two looks whether it has.
	reapEvery = 5 * time.Millisecond
)

// end ends the child, kindly if it is well, and says whether it is gone.
func (c *child) end(kindly bool) bool {
	closeAll([]*os.File{c.stdin, c.stdout})
	if kindly && c.reap(lastWords) {
		return true
	}
	_ = unix.Kill(c.pid, unix.SIGKILL) // not reaped yet, so the pid is its own
	return c.reap(killed)
}

// reap waits for the child's end, up to a limit.
func (c *child) reap(limit time.Duration) bool {
	for deadline := time.Now().Add(limit); !c.gone; {
		var ws unix.WaitStatus
		switch pid, err := unix.Wait4(c.pid, &ws, unix.WNOHANG, nil); {
		case pid == c.pid, errors.Is(err, unix.ECHILD):
			c.status, c.gone = syscall.WaitStatus(ws), true
		case errors.Is(err, unix.EINTR):
		case !time.Now().Before(deadline):
			return false
		default:
			time.Sleep(reapEvery)
		}
	}
	return true
}

// verdict says how it ended.
func (c *child) verdict() string {
	switch {
	case !c.gone:
		return "does not end"
	case c.status.Signaled():
		return "was ended by signal " + unix.SignalName(c.status.Signal())
	case c.status.ExitStatus() == exitLinker:
		return "could not be linked (exit code 127): the driver's library does not fit"
	default:
		return fmt.Sprintf("ended with exit code %d", c.status.ExitStatus())
	}
}

// exitLinker is how the dynamic linker ends a process that lacks a symbol.
const exitLinker = 127
