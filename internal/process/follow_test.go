package process

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// bareSupervisor is one with nothing running, for tests of its parts.
func bareSupervisor(t *testing.T) *supervisor {
	t.Helper()
	left := make(chan struct{})
	close(left)
	s := &supervisor{
		log: discard(), left: left, queues: map[string]*queue{}, oom: openOOMCounter(), keeper: newWaker(), ender: newWaker(),
	}
	var err error
	s.where, err = host.This()
	must(t, err)
	return s
}

// beginChild starts a process that leads a session. It is ended with the test,
// with all its group.
func beginChild(t *testing.T, env []string, words ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(words[0], words[1:]...)
	c.Env = env
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	must(t, c.Start())
	t.Cleanup(func() {
		_ = unix.Kill(-c.Process.Pid, unix.SIGKILL)
		_ = c.Wait() // another part of the test may have done that
	})
	return c
}

// pidfdFrom opens a pidfd with a number from there on, which no other file takes
// when it is closed.
func pidfdFrom(t *testing.T, pid, least int) int {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	must(t, err)
	defer unix.Close(fd)
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, least)
	must(t, err)
	return high
}

// followed is an attempt with a process that the follower waits for.
func followed(t *testing.T, s *supervisor, child bool, words ...string) *attempt {
	t.Helper()
	pid := beginChild(t, nil, words...).Process.Pid
	q := &queue{id: "q", clerk: newWaker(), attempts: map[task.Ref]*attempt{}}
	a := newAttempt(q, name(uint64(pid)), &supervisorpb.Claim{})
	a.phase, a.proc.pid, a.proc.child = running, pid, child
	a.proc.pidfd = pidfdFrom(t, pid, 200)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.followers.enrol(a, a.proc.pidfd) {
		t.Fatal("there is no pidfd to wait for")
	}
	return a
}

func (a *attempt) isGone(s *supervisor) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.proc.gone
}

// A child has copies of our files until exec(2), so that a pidfd lives on when it
// is closed here. Its end is not taken for that of the process which gets the
// number next.
func TestNumberOfPidfdIsUsedAgain(t *testing.T) {
	for _, child := range []bool{true, false} {
		t.Run(fmt.Sprintf("child=%v", child), func(t *testing.T) {
			s := bareSupervisor(t)
			s.followers = newFollower(s)
			first := followed(t, s, child, "sleep", "1000")
			number := first.proc.pidfd
			copied, err := unix.FcntlInt(uintptr(number), unix.F_DUPFD_CLOEXEC, 300)
			must(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); s.followers.run(ctx) }()
			// The follower may wait for the second process for as long as it runs.
			t.Cleanup(func() { cancel(); <-done; must(t, unix.Close(copied)) })
			must(t, unix.Kill(first.proc.pid, unix.SIGKILL))
			poll(t, "the end of the first", func() bool { return first.isGone(s) })
			second := followed(t, s, child, "sleep", "1000")
			t.Cleanup(func() { _ = unix.Kill(second.proc.pid, unix.SIGKILL) })
			if second.proc.pidfd != number {
				t.Fatalf("the second has pidfd %d, and the first had %d", second.proc.pidfd, number)
			}
			third := followed(t, s, child, "true")
			poll(t, "the end of the third", func() bool { return third.isGone(s) })
			if second.isGone(s) {
				t.Error("a process that runs was taken for gone")
			}
		})
	}
}
