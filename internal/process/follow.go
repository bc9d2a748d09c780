package process

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// follower waits for processes that are not our children: those that an earlier
// supervisor started. There are few, once, after a crash.
type follower struct {
	s     *supervisor
	epoll int // -1 = the kernel has no pidfds; then we look from time to time
	stop  int // an eventfd that ends run
	// watched is guarded by the supervisor's mutex.
	watched map[int]*attempt // by pidfd
	wakeup  waker
}

// followPause is how often processes are looked at on kernels without pidfds.
const followPause = 500 * time.Millisecond

func newFollower(s *supervisor) *follower {
	f := &follower{s: s, epoll: -1, stop: -1, watched: map[int]*attempt{}, wakeup: newWaker()}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return f
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(ep)
		return f
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(stop)}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, stop, &ev); err != nil {
		_ = unix.Close(ep)
		_ = unix.Close(stop)
		return f
	}
	f.epoll, f.stop = ep, stop
	return f
}

// add follows a running attempt from now on. The supervisor's mutex is held.
// It reports false if the process is gone already.
func (f *follower) add(a *attempt) bool {
	fd, err := unix.PidfdOpen(a.proc.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return false
	}
	// The pidfd may be of a process that got the pid just now.
	if q, ok := lookup(a.proc.pid); !ok || !a.proc.is(q) {
		if err == nil {
			_ = unix.Close(fd)
		}
		return false
	}
	if err != nil || f.epoll < 0 {
		if err == nil {
			_ = unix.Close(fd)
		}
		f.watched[-a.proc.pid] = a
		f.wakeup.wake()
		return true
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(f.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		_ = unix.Close(fd)
		return false
	}
	f.watched[fd] = a
	return true
}

// run waits for their ends until ctx is done.
func (f *follower) run(ctx context.Context) {
	if f.epoll < 0 {
		f.poll(ctx)
		return
	}
	unhook := context.AfterFunc(ctx, func() {
		_, _ = unix.Write(f.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	defer unhook()
	defer f.close()
	events := make([]unix.EpollEvent, 16)
	for ctx.Err() == nil {
		n, err := unix.EpollWait(f.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			f.s.log.Error("cannot follow adopted processes", "error", err)
			return
		}
		for _, ev := range events[:max(n, 0)] {
			if int(ev.Fd) != f.stop {
				f.ready(int(ev.Fd))
			}
		}
	}
}

// ready handles the event of a pidfd: its process has ended.
func (f *follower) ready(fd int) {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	a := f.watched[fd]
	if a == nil {
		return
	}
	delete(f.watched, fd)
	end := s.unseenEnd(a)
	if ws, ok := exitOf(a.proc.pid, fd); ok {
		end = &supervisorpb.End{Kind: supervisorpb.End_KIND_EXITED}
		s.setStatus(a, end, ws)
	}
	_ = unix.Close(fd)
	s.adoptedGone(a, end)
}

// adoptedGone is exited for a process that was not our child. Nobody handed us
// what it left behind, so the table of processes has to tell.
func (s *supervisor) adoptedGone(a *attempt, end *supervisorpb.End) {
	s.mainGone(a, end)
	s.beginEnding(a, leftoverGrace)
}

// exitOf finds out how a process ended that is no child of ours. Until its
// parent has taken note, it is a zombie that shows its status to its own user;
// afterwards the kernel remembers it for those who hold a pidfd (Linux 6.15).
func exitOf(pid, fd int) (unix.WaitStatus, bool) {
	if ws, ok := zombieStatus(pid); ok {
		return ws, true
	}
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	if err := unix.IoctlPidfdInfo(fd, &info); err != nil || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return 0, false
	}
	return unix.WaitStatus(info.Exit_code), true
}

// poll is run for kernels without pidfds.
func (f *follower) poll(ctx context.Context) {
	timer := time.NewTicker(followPause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wakeup:
		case <-timer.C:
		}
		f.s.mu.Lock()
		for key, a := range f.watched {
			if q, ok := lookup(a.proc.pid); !ok || !a.proc.is(q) {
				delete(f.watched, key)
				f.s.adoptedGone(a, f.s.unseenEnd(a))
			}
		}
		f.s.mu.Unlock()
	}
}

func (f *follower) close() {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	for fd := range f.watched {
		_ = unix.Close(fd)
	}
	clear(f.watched)
	_ = unix.Close(f.epoll)
	_ = unix.Close(f.stop)
}
