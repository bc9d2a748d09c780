package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Orphans are processes whose parents ended: being a subreaper, we get them,
// and the kernel gives them to the main thread. That thread starts nobody
// itself, so it has children exactly when there are orphans. To know that there
// are none takes one cheap call then, instead of a walk through /proc for every
// task that ends.

// tendOrphans answers that question until ctx ends, and reaps those that ended.
// It runs on the main thread.
func (s *supervisor) tendOrphans(ctx context.Context) {
	timer := time.NewTicker(tick)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case answer := <-s.orphanage:
			answer <- orphans()
		case <-timer.C:
			orphans()
		}
	}
}

// orphans reaps the orphans that ended and says whether others are left. From a
// thread other than the main one it cannot tell, and the answer is yes.
func orphans() bool {
	if unix.Gettid() != os.Getpid() {
		return true
	}
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.EINTR) || pid > 0:
		default:
			return !errors.Is(err, unix.ECHILD)
		}
	}
}

// childrenFile opens the kernel's list of the main thread's children, which
// most kernels have; nil without.
func childrenFile() *os.File {
	f, err := os.Open(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if err != nil {
		return nil
	}
	return f
}

// leftBehind says whether processes of an attempt may be left after its main
// process has ended. It is cheap, and errs to the side of yes.
func (s *supervisor) leftBehind(p *proc) bool {
	if p.cgroup != nil {
		return p.cgroup.populated()
	}
	if s.childrenOf != nil {
		var b [1]byte
		n, err := unix.Pread(int(s.childrenOf.Fd()), b[:], 0)
		return err != nil || n > 0
	}
	answer := make(chan bool, 1)
	select {
	case s.orphanage <- answer:
		return <-answer
	case <-s.left:
		return true
	}
}
