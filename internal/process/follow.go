package process

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// follower waits for processes in one thread, however many there are: for
// children whose runners were needed elsewhere, and after a crash for those that
// an earlier supervisor started. It does nothing that could take long.
type follower struct {
	s     *supervisor
	epoll int // -1 = none could be made; then we look from time to time
	stop  int // an eventfd that ends run
	// signals brings SIGCHLD, where there are no pidfds to wait for.
	signals chan os.Signal
	once    sync.Once
	// watched is guarded by the supervisor's mutex.
	watched map[int]*attempt // by pidfd; by -pid, those that have none
	wakeup  waker
}

// followPause is how often processes without a pidfd are looked at; our own
// children among them as soon as a signal says that one has ended.
const followPause = 500 * time.Millisecond

// pidfdOpen and forkWithPidfd are variables so that tests can be on a kernel
// without pidfds.
var (
	pidfdOpen     = unix.PidfdOpen
	forkWithPidfd = true
)

func newFollower(s *supervisor) *follower {
	f := &follower{s: s, epoll: -1, stop: -1, watched: map[int]*attempt{}, wakeup: newWaker(), signals: make(chan os.Signal, 1)}
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
	if err != nil {
		fd = -1
	}
	if !f.enrol(a, fd) && fd >= 0 {
		_ = unix.Close(fd)
	}
	return true
}

// addChild follows a process that its runner does not wait for any more.
func (f *follower) addChild(a *attempt) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if !f.enrol(a, a.proc.pidfd) {
		f.once.Do(func() { signal.Notify(f.signals, unix.SIGCHLD) }) //nolint:forbidigo // the supervisor is alone in its process
	}
}

// enrol has run wait for the process, or poll look at it where that cannot be;
// then it returns false. The supervisor's mutex is held.
func (f *follower) enrol(a *attempt, pidfd int) bool {
	if pidfd >= 0 && f.epoll >= 0 {
		// Once, since an end is taken in once: see forget.
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(pidfd)}
		if err := unix.EpollCtl(f.epoll, unix.EPOLL_CTL_ADD, pidfd, &ev); err == nil {
			f.watched[pidfd] = a
			return true
		}
	}
	f.watched[-a.proc.pid] = a
	f.wakeup.wake()
	return false
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
	unhook := context.AfterFunc(ctx, func() { signalFD(f.stop, 1) })
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
	a := f.watched[fd]
	delete(f.watched, fd)
	f.forget(fd)
	s.mu.Unlock()
	switch {
	case a == nil:
	case a.proc.child:
		s.reapForClerk(a) // it closes the pidfd as well
	default:
		f.unseen(a, fd)
	}
}

// forget has the kernel look no more at a pidfd that is to be closed. To close it
// is not enough: a child has a copy of it until exec(2), and as long as there is
// one, its events go on, for a number that may be another process's by then.
func (f *follower) forget(fd int) {
	_ = unix.EpollCtl(f.epoll, unix.EPOLL_CTL_DEL, fd, nil) // fails if it is forgotten already
}

// reapForClerk is reap for those who may not wait for a file system.
func (s *supervisor) reapForClerk(a *attempt) {
	d := s.reap(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	a.queue.sendOff(d)
}

// unseen takes in the end of a process that was not our child.
func (f *follower) unseen(a *attempt, fd int) {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
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
	a.queue.sendOff(s.mainGone(a, end, true))
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
	defer signal.Stop(f.signals)
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
			case <-f.wakeup:
			case <-f.signals:
			}
		}
	}
}

// pollOnce takes in the ends of those without a pidfd, and says whether some are
// left.
func (f *follower) pollOnce() (more bool) {
	for _, a := range f.endedChildren() {
		f.s.reapForClerk(a)
	}
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, a := range f.watched {
		if key >= 0 {
			continue
		}
		if a.proc.child {
			more = true
			continue
		}
		// A zombie counts as ended: its parent may never take note of it.
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

// endedChildren takes those of our children without a pidfd that can be reaped.
func (f *follower) endedChildren() (out []*attempt) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	for key, a := range f.watched {
		if key < 0 && a.proc.child && reapable(a.proc.pid) {
			delete(f.watched, key)
			out = append(out, a)
		}
	}
	return out
}

// reapable says whether wait(2) for that child would not block.
func reapable(pid int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return errors.Is(err, unix.ECHILD) || err == nil && info.Signo != 0
}

func (f *follower) close() {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	for fd, a := range f.watched {
		if fd >= 0 {
			_ = unix.Close(fd)
			a.proc.pidfd = -1
		}
	}
	clear(f.watched)
	_ = unix.Close(f.epoll)
	_ = unix.Close(f.stop)
}
