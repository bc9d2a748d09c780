package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ownSession detaches a child from our terminal and its signals.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// kernelFolder returns the current folder as the kernel knows it, which does not look at
// it; "" if it is gone.
func kernelFolder() string {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Getcwd(buf)
	if err != nil || n < 1 {
		return ""
	}
	return string(buf[:n-1]) // it ends with a zero
}

// errGone says that there is no such process.
var errGone = errors.New("the process is gone")

// terminate asks a process to end. The file it returns is readable once it has;
// it names the process itself, and not whoever gets its number next.
func terminate(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, gone(err, "open process")
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil {
		return nil, errors.Join(gone(err, "signal process"), f.Close())
	}
	return f, nil
}

func gone(err error, what string) error {
	if errors.Is(err, unix.ESRCH) {
		return errGone
	}
	return fmt.Errorf("%s: %w", what, err)
}

// awaitEnd returns when the process has ended, with os.ErrDeadlineExceeded when
// it has not after the limit, or with the context's error. tell is told meanwhile for how
// long that has been waited for.
func awaitEnd(ctx context.Context, pidfd *os.File, limit time.Duration, tell func(waited time.Duration)) error {
	const look = 50 * time.Millisecond // how soon an interrupt is noticed
	begun := time.Now()
	fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(look.Milliseconds()))
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for the process: %w", err)
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Since(begun) > limit:
			return os.ErrDeadlineExceeded
		}
		tell(time.Since(begun))
	}
}
