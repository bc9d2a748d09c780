package process

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// follower waits for processes that are not our children: those that an earlier
// supervisor started. There are few, once, after a crash.
type follower struct {
	s     *supervisor
	epoll int // -1 = none could be made; then we look from time to time
	stop  int // an eventfd that ends run
	// watched is guarded by the supervisor's mutex.
	watched map[int]*attempt // by pidfd; by -pid, those that have none
	wakeup  waker
}

// followPause is how often processes without a pidfd are looked at.
const followPause = 500 * time.Millisecond

// pidfdOpen is a variable so that tests can be on a kernel without.
var pidfdOpen = unix.PidfdOpen

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
	fd, err := pidfdOpen(a.proc.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return false
	}
	// The pidfd may be of a process that got the pid just now.
	if a.proc.ended() {
		if err == nil {
			_ = unix.Close(fd)
		}
		return false
	}
	if err == nil && f.epoll >= 0 {
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err := unix.EpollCtl(f.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err == nil {
			f.watched[fd] = a
			return true
		}
	}
	if err == nil {
		_ = unix.Close(fd)
	}
	f.watched[-a.proc.pid] = a // for poll
	f.wakeup.wake()
	return true
}

// ended says that the process is not there any more. What cannot be looked at
// for want of a file descriptor is.
func (p *proc) ended() bool {
	if q, ok := lookup(p.pid); ok {
		return !p.is(q)
	}
	return errors.Is(unix.Kill(p.pid, 0), unix.ESRCH)
}

// run waits for their ends until ctx is done.
func (f *follower) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { f.poll(ctx) })
	if f.epoll < 0 {
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

// poll looks from time to time at those that have no pidfd: on kernels without
// (before Linux 5.3), and when we were out of file descriptors.
func (f *follower) poll(ctx context.Context) {
	timer := time.NewTicker(followPause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wakeup:
		}
		for f.pollOnce() {
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
	}
}

// pollOnce takes in the ends of those without a pidfd, and says whether some are
// left. A zombie counts as ended: its parent may never take note of it.
func (f *follower) pollOnce() (more bool) {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, a := range f.watched {
		if key >= 0 {
			continue
		}
		end := s.unseenEnd(a)
		if ws, ok := zombieStatus(a.proc.pid); ok && !a.proc.ended() {
			end = &supervisorpb.End{Kind: supervisorpb.End_KIND_EXITED}
			s.setStatus(a, end, ws)
		} else if !a.proc.ended() {
			more = true
			continue
		}
		delete(f.watched, key)
		s.adoptedGone(a, end)
	}
	return more
}

func (f *follower) close() {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	for fd := range f.watched {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	clear(f.watched)
	_ = unix.Close(f.epoll)
	_ = unix.Close(f.stop)
}
