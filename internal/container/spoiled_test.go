package container

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// spoilings are what a program that was claimed may do to its record.
var spoilings = map[string]func(s *stage){
	"nothing":                 func(*stage) {},
	"removes its claim":       func(s *stage) { must(s.t, os.Remove(filepath.Join(s.folder(), "claim.json"))) },
	"removes its folder":      func(s *stage) { must(s.t, os.RemoveAll(s.folder())) },
	"makes the claim a FIFO":  func(s *stage) { s.replaceClaim(func(p string) error { return syscall.Mkfifo(p, 0o600) }) },
	"makes the claim a dir":   func(s *stage) { s.replaceClaim(func(p string) error { return os.Mkdir(p, 0o700) }) },
	"makes the claim a link":  func(s *stage) { s.replaceClaim(func(p string) error { return os.Symlink("/dev/zero", p) }) },
	"makes the folder a file": func(s *stage) { must(s.t, errors.Join(os.RemoveAll(s.folder()), os.WriteFile(s.folder(), nil, 0o600))) },
	"makes the folder a link": func(s *stage) {
		must(s.t, errors.Join(os.RemoveAll(s.folder()), os.Symlink(s.t.TempDir(), s.folder())))
	},
	"closes the folder":        func(s *stage) { must(s.t, os.Chmod(s.folder(), 0o500)) },
	"writes an end of its own": func(s *stage) { s.write("end.json", "{}") },
	"withdraws itself":         func(s *stage) { s.write("claim.json", `{"v":1,"withdrawn":true}`) },
}

func (s *stage) replaceClaim(by func(path string) error) {
	path := filepath.Join(s.folder(), "claim.json")
	must(s.t, errors.Join(os.Remove(path), by(path)))
}

// spoilt is an attempt that the queue has seen to run, and whose program has spoiled its record.
func spoilt(t *testing.T, what string, spec task.Spec) *stage {
	t.Helper()
	s := newStage(t, task.Running, spec)
	s.claim()
	spoilings[what](s)
	t.Cleanup(func() { _ = os.Chmod(s.folder(), 0o700) }) // for who cleans up
	return s
}

// unrepeated ends the test if anything was started, or the init is not believed in any more.
func (s *stage) unrepeated(what string) {
	s.t.Helper()
	if s.e.starts+len(s.e.creates) > 0 || s.b.initFile() == "" || s.plain {
		s.t.Errorf("%s: made %d times, started %d times, without init: %v", what, len(s.e.creates), s.e.starts, s.plain || s.b.initFile() == "")
	}
}

// Whatever a program has made of its record: it is not run again, and how it ended is told.
func TestSpoiledRecordRunsNothingAgain(t *testing.T) {
	t.Parallel()
	for what := range spoilings {
		for _, code := range []int{0, 1, 2, 5, 125} {
			s := newStage(t, task.Running, task.Spec{})
			die := s.claim()
			spoilings[what](s)
			die()
			s.is(docker.Exited, code)
			done := s.look(5)
			_ = os.Chmod(s.folder(), 0o700) // for who cleans up
			if e := s.last(); !done || e.Kind != task.EventExited || e.Outcome.ExitCode != code {
				t.Errorf("%s, and ends with %d: %v, %s, %+v", what, code, done, e.Kind, e.Outcome)
			}
			s.unrepeated(what)
		}
	}
}

// Nor is one that ended before it was seen to run, since its init writes down the end.
func TestRemovedClaimBeforeItWasSeen(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"removes its claim", "withdraws itself", "makes the claim a FIFO"} {
		s := newStage(t, task.Starting, task.Spec{})
		die := s.claim()
		spoilings[what](s)
		die()
		s.writeEnd(1)
		s.is(docker.Exited, 1)
		if done, e := s.look(5), s.last(); !done || e.Kind != task.EventExited || e.Outcome.ExitCode != 1 {
			t.Errorf("%s: %v, %s, %+v", what, done, e.Kind, e.Outcome)
		}
		s.unrepeated(what)
	}
	s := newStage(t, task.Starting, task.Spec{})
	must(t, os.RemoveAll(s.folder()))
	s.is(docker.Exited, 0)
	if done, e := s.look(5), s.last(); !done || e.Kind != task.EventExited {
		t.Errorf("without a folder: %v, %s", done, e.Kind)
	}
	s.unrepeated("removes its folder")
}

// It can be ended, by a stop and by its time limit.
func TestSpoiledRecordIsEnded(t *testing.T) {
	t.Parallel()
	limited := sh("true")
	limited.Timeout = time.Minute
	for what := range spoilings {
		for _, stop := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				s := spoilt(t, what, limited)
				s.is(docker.Running, 0)
				if done := s.look(1); done || len(s.e.kills) > 0 {
					t.Fatalf("%s: ended at once: %v, %v", what, done, s.e.kills)
				}
				if s.stop = stop; !stop {
					time.Sleep(limited.Timeout)
				}
				s.look(1)
				time.Sleep(task.DefaultGrace)
				s.look(1)
				if !slices.Equal(s.e.kills, []string{"SIGTERM", "SIGKILL"}) {
					t.Errorf("%s, stop %v: it was sent %v", what, stop, s.e.kills)
				}
				s.unrepeated(what)
			})
		}
	}
}

// When its container is gone it has ended, and nobody knows how; what lives of it is ended
// before that is said.
func TestSpoiledRecordWithoutContainer(t *testing.T) {
	t.Parallel()
	for what := range spoilings {
		for _, stop := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, task.Running, task.Spec{})
				die := s.claim()
				spoilings[what](s)
				die()
				t.Cleanup(func() { _ = os.Chmod(s.folder(), 0o700) }) // for who cleans up
				s.stop, s.p.live[fakeID] = stop, []int{1000, 1001}
				if done := s.look(3); done || s.last().Kind == task.EventVanished {
					t.Fatalf("%s: ended while it lives", what)
				}
				if stop {
					time.Sleep(task.DefaultGrace)
					s.look(1)
				}
				want := []string{"1000 SIGTERM", "1000 SIGKILL", "1001 SIGKILL"}
				if got := slices.Compact(slices.Sorted(slices.Values(s.p.got))); what == "removes its folder" { // nobody knows any more that it has an init
					if !slices.Equal(got, []string{"1000 SIGKILL", "1001 SIGKILL"}) {
						t.Errorf("%s, stop %v: they were sent %v", what, stop, got)
					}
				} else if stop && !slices.Equal(s.p.got, want) || !stop && len(s.p.got) > 0 {
					t.Errorf("%s, stop %v: they were sent %v", what, stop, s.p.got)
				}
				s.p.live = nil
				ends := task.EventVanished
				if stop {
					ends = task.EventStopped
				}
				if done, e := s.look(1), s.last(); !done || e.Kind != ends {
					t.Errorf("%s, stop %v: %v, %s", what, stop, done, e.Kind)
				}
				s.unrepeated(what)
			})
		}
	}
}

// The end is told when nobody of the container lives any more: a process that cannot be
// killed while it waits for a device keeps what the attempt holds.
func TestEndWaitsForThoseWhoLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, task.Running, task.Spec{})
		s.claim()()
		s.writeEnd(3)
		s.is(docker.Running, 0)
		time.Sleep(time.Second)
		s.p.live[fakeID] = []int{1001}
		if s.look(3) {
			t.Fatal("ended while a process lives")
		}
		s.stop = true
		if s.look(1) || !slices.Equal(s.e.kills, []string{"SIGTERM"}) {
			t.Errorf("it is to be stopped, and was sent %v", s.e.kills)
		}
		s.p.live = nil
		if done, e := s.look(1), s.last(); !done || e.Kind != task.EventExited || e.Outcome.ExitCode != 3 {
			t.Errorf("%v, %s, %+v", done, e.Kind, e.Outcome)
		}
	})
}
