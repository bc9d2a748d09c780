package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/containerinit"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// wantNotStarted ends the test unless the attempt ended as one that certainly has not begun.
func (s *stage) wantNotStarted(what string, done bool) {
	s.t.Helper()
	if e := s.last(); !done || e.Kind != task.EventNotStarted || e.Class != task.CouldNotStart {
		s.t.Errorf("%s: %v, %s, %s: %s", what, done, e.Kind, e.Class, e.Text)
	}
}

// What has certainly not begun is not lost when its container is, whoever was killed.
func TestUnclaimedIsNotLost(t *testing.T) {
	t.Parallel()
	s := newStage(t, task.Starting, task.Spec{})
	s.wantNotStarted("after a restart", s.look(1))
	if ok, err := containerinit.Withdraw(s.folder()); !ok || err != nil {
		t.Errorf("it may begin all the same: %v, %v", ok, err)
	}
	// The daemon was killed between removing a container with an init and making one without.
	s = newStage(t, task.Starting, task.Spec{})
	must(t, s.notePlain())
	must(t, os.RemoveAll(s.folder()))
	s.unasked, s.plain = false, false
	s.readPlain()
	s.wantNotStarted("while it was made anew", s.look(1))
	// It may have begun, in a container without an init that was asked to start.
	s = newStage(t, task.Starting, task.Spec{})
	must(t, s.notePlain())
	must(t, os.RemoveAll(s.folder()))
	must(t, s.forgetPlain())
	if done := s.look(1); !done || s.last().Kind != task.EventVanished {
		t.Errorf("after it was asked to start: %v, %s", done, s.last().Kind)
	}
}

// One that its engine loses before it began is made again, by who has all that it is made of.
func TestLostBeforeItBegan(t *testing.T) {
	t.Parallel()
	s := newStage(t, task.Assigned, task.Spec{})
	lost := 0
	s.e.onStart = func(c *docker.Container) {
		if lost++; lost <= 2 {
			*c = docker.Container{}
			return
		}
		s.claim()
	}
	if s.look(2) || lost != 3 || len(s.e.creates) != 3 || s.last().Kind != task.EventStarted {
		t.Errorf("made %d times, started %d times: %s", len(s.e.creates), lost, s.last().Kind)
	}
	s = newStage(t, task.Assigned, task.Spec{})
	s.e.onStart = func(c *docker.Container) { *c = docker.Container{} }
	s.wantNotStarted("lost each time", s.look(9))
	if n := len(s.e.creates); n != 1+mostStarts {
		t.Errorf("it was made %d times", n)
	}
}

// A container whose init is killed before it could claim is started again, and not for ever.
func TestStartedUntilItIsClaimed(t *testing.T) {
	t.Parallel()
	s := newStage(t, task.Assigned, task.Spec{})
	s.e.onStart = func(c *docker.Container) { c.Phase, c.ExitCode, c.Finished = docker.Exited, killedCode, time.Now() }
	s.wantNotStarted("never claimed", s.look(9))
	if s.e.starts != 1+mostStarts {
		t.Errorf("it was started %d times", s.e.starts)
	}
	s = newStage(t, task.Assigned, task.Spec{})
	s.e.onStart = func(c *docker.Container) {
		if s.e.starts > 1 {
			s.claim()
			return
		}
		c.Phase, c.ExitCode, c.Finished = docker.Exited, killedCode, time.Now()
	}
	if s.look(3) || s.e.starts != 2 || s.last().Kind != task.EventStarted {
		t.Errorf("started %d times: %s", s.e.starts, s.last().Kind)
	}
}

// An init that runs is given time to claim, and is taken for one that has when that is over.
func TestClaimIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, task.Starting, task.Spec{})
		s.is(docker.Running, 0)
		time.AfterFunc(claimPatience+claimPatience/2, func() { s.claim() })
		if s.look(1) || s.last().Kind == task.EventStarted {
			t.Fatal("started before it was claimed")
		}
		if s.look(1) || s.last().Kind != task.EventStarted {
			t.Errorf("claimed: %s", s.last().Kind)
		}
		s = newStage(t, task.Starting, task.Spec{})
		s.is(docker.Running, 0)
		time.Sleep(claimLimit)
		if s.look(1) || s.last().Kind != task.EventStarted {
			t.Errorf("it runs for long: %s", s.last().Kind)
		}
	})
}

// A daemon that was killed after it had withdrawn an attempt does not have it begin, and one
// whose folder is gone can be withdrawn.
func TestWithdrawnAfterACrash(t *testing.T) {
	t.Parallel()
	for _, state := range []task.State{task.Assigned, task.Starting} {
		for _, there := range []bool{true, false} {
			s := newStage(t, state, task.Spec{})
			if ok, err := containerinit.Withdraw(s.folder()); !ok || err != nil {
				t.Fatal(ok, err)
			}
			if there {
				s.is(docker.Created, 0)
			}
			s.wantNotStarted(fmt.Sprintf("%s, container there: %v", state, there), s.look(2))
			if s.e.starts+len(s.e.creates) > 0 {
				t.Errorf("made %d times, started %d times", len(s.e.creates), s.e.starts)
			}
		}
	}
	s := newStage(t, task.Starting, task.Spec{})
	s.is(docker.Created, 0)
	s.kept, s.stop = true, true
	must(t, os.RemoveAll(s.folder()))
	if !s.look(3) || s.last().Kind != task.EventStopped {
		t.Errorf("without a folder: %s", s.last().Kind)
	}
}

// What was begun and whose container was removed is not made again by who is handed it once
// more.
func TestBegunIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t, task.Assigned, task.Spec{})
	s.claim()()
	if !s.look(3) || s.last().Kind != task.EventVanished || s.e.starts+len(s.e.creates) > 0 {
		t.Errorf("%s, made %d times, started %d times", s.last().Kind, len(s.e.creates), s.e.starts)
	}
	// Not even where the program has put a link in the place of its record.
	s = newStage(t, task.Assigned, task.Spec{})
	elsewhere := t.TempDir()
	must(t, errors.Join(os.RemoveAll(s.folder()), os.Symlink(elsewhere, s.folder())))
	if !s.look(3) || s.last().Kind != task.EventVanished || s.e.starts+len(s.e.creates) > 0 {
		t.Errorf("%s, made %d times, started %d times", s.last().Kind, len(s.e.creates), s.e.starts)
	}
	if made, err := os.ReadDir(elsewhere); err != nil || len(made) > 0 {
		t.Errorf("made elsewhere: %v, %v", made, err)
	}
}

// What runs without its engine's knowledge is found by the id that the queue knows, and ended
// by a stop and by its time limit.
func TestUnknownIsEnded(t *testing.T) {
	t.Parallel()
	limited := sh("true")
	limited.Timeout = time.Minute
	for what, stop := range map[string]bool{"stop": true, "limit": false} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, task.Running, limited)
			die := s.claim()
			s.p.live[fakeID] = []int{1000, 1001}
			if s.look(2) || len(s.p.got) > 0 {
				t.Fatalf("%s: sent at once: %v", what, s.p.got)
			}
			if s.stop = stop; !stop {
				time.Sleep(limited.Timeout)
			}
			s.look(2)
			if got := fmt.Sprint(s.p.got); got != "[1000 SIGTERM]" {
				t.Errorf("%s: first %s", what, got)
			}
			time.Sleep(task.DefaultGrace)
			s.look(1)
			if got := fmt.Sprint(s.p.got); got != "[1000 SIGTERM 1000 SIGKILL 1001 SIGKILL]" {
				t.Errorf("%s: then %s", what, got)
			}
			s.p.live = nil
			die()
			if done, e := s.look(1), s.last(); !done || stop && e.Kind != task.EventStopped || !stop && e.Kind != task.EventVanished {
				t.Errorf("%s: %v, %s", what, done, e.Kind)
			}
		})
	}
}

// Who waits for its turn to start looks again when it comes: the queue may be another's, and
// the container may have run.
func TestTurnToStartIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	for _, with := range []bool{true, false} {
		for what, meanwhile := range map[string]func(s *stage){
			"the queue is another's": func(s *stage) { s.b.opts.Confirm = func() error { return errors.New("another's") } },
			"it has run": func(s *stage) {
				s.e.mu.Lock()
				defer s.e.mu.Unlock()
				s.e.is.Phase, s.e.is.Started, s.e.is.Finished = docker.Exited, time.Now(), time.Now()
				s.writeEnd(0)
			},
		} {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, task.Starting, task.Spec{})
				s.is(docker.Created, 0)
				if !with {
					delete(s.e.is.Labels, labelInit)
					s.half.made = true // and never asked to start
				}
				for range cap(s.b.starts) {
					s.b.starts <- struct{}{}
				}
				var looked sync.WaitGroup
				ctx, cancel := context.WithCancel(t.Context())
				looked.Go(func() { s.step(ctx) })
				synctest.Wait()
				meanwhile(s)
				<-s.b.starts
				looked.Wait()
				cancel()
				if s.e.starts > 0 {
					t.Errorf("%s, init: %v: it was started", what, with)
				}
			})
		}
	}
}

// An engine that hangs while it is asked for an image's command does not keep others from
// starting for ever.
func TestImageThatIsNotTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, task.Assigned, task.Spec{Argv: []string{}})
		must(t, os.RemoveAll(s.folder()))
		s.e.image = func(ctx context.Context) error { <-ctx.Done(); return errors.Join(docker.ErrAway, ctx.Err()) }
		began := time.Now()
		if s.look(1) || time.Since(began) != callPatience || len(s.b.starts) > 0 || len(s.e.creates) > 0 {
			t.Errorf("after %s, made %d times", time.Since(began), len(s.e.creates))
		}
	})
}

// The log of a container that is made anew without an init is cut by who writes it alone.
func TestWithoutInitNobodyElseCuts(t *testing.T) {
	t.Parallel()
	s := newStage(t, task.Assigned, task.Spec{})
	s.e.onStart = func(c *docker.Container) {
		if c.Labels[labelInit] != "" {
			c.Phase, c.ExitCode, c.Finished = docker.Exited, containerinit.Cannot, time.Now()
		}
	}
	if s.look(2) || s.e.starts != 2 || s.last().Kind != task.EventStarted {
		t.Errorf("started %d times: %s", s.e.starts, s.last().Kind)
	}
	t.Cleanup(s.closeOutput)
	if s.logged || s.kept || s.b.initFile() != "" {
		t.Errorf("logged: %v, kept: %v, init: %q", s.logged, s.kept, s.b.initFile())
	}
	for _, gone := range []string{s.folder(), s.b.path(s.ref, plainFile), s.b.layout.LogPath(s.ref) + ".former"} {
		if _, err := os.Lstat(gone); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there (%v)", filepath.Base(gone), err)
		}
	}
}
