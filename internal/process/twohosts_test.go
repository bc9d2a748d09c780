package process

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// TestFollowedFromAnotherHost: the daemon of the first host is killed, and the queue
// taken over from the second. What runs on the first is followed to its end there, with
// its result, its exit code and its output. When the first owns the queue again nothing
// is told twice, and its supervisor forgets.
func TestFollowedFromAnotherHost(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a take-over takes 21 s")
	}
	w := newHosts(t)
	a := w.boot(1, 1)
	a.start()
	a.do("submit", "good", w.script("good", `echo '{"n": 1}' > "$DSPY_RESULT_FILE"`))
	a.await("good", "running")
	a.do("host", "kill")
	b := w.boot(2, 1)
	b.start(taken)
	b.await("good", "runs on host login1")
	b.do("submit", "own", w.script("own", "exit 4"))
	w.open("own")
	b.await("own", `failed attempt 1 on "login2" code 4`)
	w.open("good")
	b.await("good", `succeeded attempt 1 on "login1" code 0 result {"n": 1}`)
	log, err := os.ReadFile(taskfiles.Layout{Dir: filepath.Join(w.dir, "q", "tasks")}.LogPath(task.Ref{Seq: 1, Attempt: 1}))
	must(t, err)
	if string(log) != "begins\nends\n" {
		t.Errorf("output %q", log)
	}
	poll(t, "the first host's supervisor has forgotten", func() bool {
		for _, f := range w.facts(1) {
			if f.end != nil && !f.forgot {
				return false
			}
		}
		return true
	})
	b.do("check")
	b.do("close")
	a.start()
	a.await("good", `succeeded attempt 1 on "login1"`)
	a.do("submit", "last", w.script("last", "exit 5"))
	w.open("last")
	a.await("last", `failed attempt 1 on "login1" code 5`)
	a.do("check")
	for _, id := range []string{"good", "own", "last"} {
		if n := w.runs(id); n != 1 {
			t.Errorf("%s has begun %d times", id, n)
		}
	}
}

// TestCancelledFromAnotherHost: the supervisor there ends it, with all that it started.
func TestCancelledFromAnotherHost(t *testing.T) {
	t.Parallel()
	w := newHosts(t)
	a := w.boot(1, 1)
	a.start()
	a.do("submit", "t", w.script("t", ":"))
	a.await("t", "running")
	a.do("close")
	b := w.boot(2, 1)
	b.start()
	b.await("t", "runs on host login1")
	b.do("cancel", "t")
	b.await("t", "cancelled")
	table, marks, err := census()
	must(t, err)
	for pid := range marks {
		if args, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline")); strings.Contains(string(args), w.dir) && !table[pid].zombie() {
			t.Errorf("process %d is left: %q", pid, args)
		}
	}
	b.do("check")
}

// TestSupervisorKilledOnAnotherHost: what it followed is not said to have ended before
// one there has seen what became of it.
func TestSupervisorKilledOnAnotherHost(t *testing.T) {
	t.Parallel()
	w := newHosts(t)
	a := w.boot(1, 1)
	a.start()
	a.do("submit", "t", w.script("t", ":"))
	a.await("t", "running")
	a.do("close")
	a.do("host", "kill the supervisor")
	b := w.boot(2, 1)
	b.start()
	b.await("t", "runs on host login1")
	w.open("t")
	b.do("submit", "other", "exit 0")
	b.await("other", "succeeded")
	b.await("t", "running")
	b.do("close")
	a.start()
	a.await("t", " attempt 1 on \"login1\"")
	if n := w.runs("t"); n != 1 {
		t.Errorf("it has begun %d times", n)
	}
}

// TestRestartedHost: what ran there before is lost, and said to be so by an owner there.
func TestRestartedHost(t *testing.T) {
	t.Parallel()
	w := newHosts(t)
	a := w.boot(1, 1)
	a.start()
	a.do("submit", "t", w.script("t", ":"))
	a.await("t", "running")
	a.crash()
	a = w.boot(1, 2)
	a.start()
	a.await("t", "was restarted")
	a.do("check")
}

// TestQueuedOnAnotherHost: what waits in the line of a supervisor on another host is
// called back, and begins once.
func TestQueuedOnAnotherHost(t *testing.T) {
	t.Parallel()
	w := newHosts(t)
	a := w.boot(1, 1)
	a.start()
	a.do("submit", "first", w.script("first", ":"))
	a.await("first", "running")
	a.do("submit", "second", w.script("second", ":"))
	a.await("second", "assigned")
	a.do("close")
	b := w.boot(2, 1)
	b.start()
	b.await("second", "running")
	b.await("first", "runs on host login1")
	w.open("first")
	w.open("second")
	b.await("first", `succeeded attempt 1 on "login1"`)
	b.await("second", `succeeded attempt 1 on "login2"`)
	b.do("check")
	b.do("close")
	a.start()
	a.do("submit", "third", "exit 0")
	a.await("third", `succeeded attempt 1 on "login1"`)
	for _, id := range []string{"first", "second"} {
		if n := w.runs(id); n != 1 {
			t.Errorf("%s has begun %d times", id, n)
		}
	}
	a.do("check")
}

// TestQueuedOnASilentHost: as long as nobody answers there, what may wait in its line
// begins nowhere, and says why. An owner there knows.
func TestQueuedOnASilentHost(t *testing.T) {
	t.Parallel()
	w := newHosts(t)
	a := w.boot(1, 1)
	a.start()
	a.do("submit", "first", w.script("first", ":"))
	a.await("first", "running")
	a.do("submit", "second", w.script("second", ":"))
	a.await("second", "assigned")
	a.do("close")
	a.do("host", "kill the supervisor")
	b := w.boot(2, 1)
	b.start()
	b.await("second", "may have been handed to the supervisor on host login1")
	b.do("submit", "own", "exit 0")
	b.await("own", `succeeded attempt 1 on "login2"`)
	b.do("close")
	if n := w.runs("second"); n != 0 {
		t.Fatalf("it has begun %d times", n)
	}
	w.open("first")
	w.open("second")
	a.start()
	a.await("second", `succeeded attempt 1 on "login1"`)
	if n := w.runs("second"); n != 1 {
		t.Errorf("it has begun %d times", n)
	}
	a.do("check")
}

// TestSupervisorThatLeft: one that has ended in order begins nothing any more, whatever
// was handed to it.
func TestSupervisorThatLeft(t *testing.T) {
	t.Parallel()
	w := newHosts(t)
	a := w.boot(1, 1)
	a.start(loses(2))
	a.do("submit", "first", "exit 0")
	a.await("first", "succeeded")
	a.do("submit", "second", w.script("second", ":"))
	a.await("second", "assigned")
	a.do("close")
	poll(t, "the supervisor has nothing to do, and leaves", func() bool {
		dirs, err := filepath.Glob(filepath.Join(w.dir, "q", "spool", "*"))
		must(t, err)
		c, err := readCard(dirs[0])
		return err == nil && c.Left
	})
	w.open("second")
	b := w.boot(2, 1)
	b.start()
	b.await("second", `succeeded attempt 1 on "login2"`)
	if n := w.runs("second"); n != 1 {
		t.Errorf("it has begun %d times", n)
	}
	b.do("check")
}

// TestFrozenBetweenPlacementAndStart: an owner is frozen after it has made sure that the
// queue is its own, and before it hands over. Its successor begins the task; what the
// thawed one sends begins nothing, whether its supervisor was asked meanwhile or not.
func TestFrozenBetweenPlacementAndStart(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a take-over takes 21 s")
	}
	for what, before := range map[string]bool{"never handed over anything": false, "handed over before": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newHosts(t)
			a := w.boot(1, 1)
			if before {
				a.start(freezes(2))
				a.do("submit", "first", "exit 0")
				a.await("first", "succeeded")
			} else {
				a.start(freezes(1))
			}
			a.do("submit", "t", w.script("t", ":"))
			if said := a.Hear(); said != "frozen" {
				t.Fatal(said)
			}
			b := w.boot(2, 1)
			b.start(taken)
			b.await("t", "running")
			a.do("host", "thaw")
			a.do("deposed")
			w.open("t")
			b.await("t", `succeeded attempt 1 on "login2"`)
			poll(t, "the thawed daemon's start at its supervisor", func() bool {
				log, err := os.ReadFile(defaultLog(a.run))
				must(t, err)
				// A connection that was not served for so long may have been given up.
				return before || strings.Contains(string(log), "came too late") || strings.Contains(string(log), "connection broke")
			})
			if n := w.runs("t"); n != 1 {
				t.Errorf("it has begun %d times", n)
			}
			for _, f := range w.facts(1) {
				if f.begun() && f.end.GetKind() == supervisorpb.End_KIND_VANISHED {
					t.Errorf("one of the journals says %v", f)
				}
			}
			b.do("check")
		})
	}
}
