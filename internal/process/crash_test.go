package process

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// openGate lets the tasks go on that wait for the file.
func openGate(t testing.TB, gate string) { must(t, os.WriteFile(gate, nil, 0o600)) }

func waitFor(gate string) string { return "while [ ! -e " + gate + " ]; do sleep 0.01; done; " }

// running brings a task of the test's own store to Running.
func runningAs(t testing.TB, tk task.Task, d *daemon) task.Task {
	t.Helper()
	launched := d.await(tk.Ref(), task.EventLaunched)
	return apply(t, tk, launched.Event, d.await(tk.Ref(), task.EventStarted).Event)
}

// After kill -9 of the supervisor its tasks go on; the next one follows them and
// learns how they end.
func TestKilledSupervisorIsReplaced(t *testing.T) {
	for _, noCgroups := range []bool{false, true} {
		t.Run(fmt.Sprintf("noCgroups=%v", noCgroups), func(t *testing.T) {
			p := newPlace(t)
			opts := p.options("q")
			opts.NoCgroups = noCgroups
			d := p.daemon(t, opts)
			gate := filepath.Join(p.dir, "gate")
			tasks := []task.Task{
				assigned(t, 1, sh(waitFor(gate)+"exit 7")),
				assigned(t, 2, sh(waitFor(gate)+"kill -9 $$")),
				assigned(t, 3, sh(waitFor(gate)+"(setsid sleep 1000 &) ; exit 0")),
			}
			d.launch(tasks...)
			for _, tk := range tasks {
				d.await(tk.Ref(), task.EventStarted)
			}
			first := p.supervisorPid(t)
			p.signalSupervisor(t, unix.SIGKILL)
			p.awaitSupervisor(t, first)
			openGate(t, gate)
			o := [3]task.Event{}
			for i, tk := range tasks {
				o[i] = d.end(tk.Ref()).Event
				if o[i].Kind == task.EventVanished && !exitsCanBeTold() {
					t.Skip("this kernel tells nobody but parents how a process ended")
				}
			}
			if o[0].Outcome.ExitCode != 7 || o[1].Outcome.Signal != 9 || o[2].Outcome.ExitCode != 0 {
				t.Fatalf("ends %+v", o)
			}
		})
	}
}

// exitsCanBeTold says whether the kernel has PIDFD_INFO_EXIT.
func exitsCanBeTold() bool {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.IoctlPidfdInfo(fd, &unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}) == nil
}

// awaitSupervisor waits until another supervisor than that one answers.
func (p *place) awaitSupervisor(t testing.TB, not int) {
	t.Helper()
	poll(t, "another supervisor", func() bool {
		pid := p.supervisorPid(t)
		return pid != 0 && pid != not
	})
}

// An end that nobody could see is said to be one.
func TestEndWithoutWitnessVanishes(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	d := p.daemon(t, opts)
	tk := assigned(t, 1, sh("sleep 1000"))
	d.launch(tk)
	tk = runningAs(t, tk, d)
	d.stop()
	p.signalSupervisor(t, unix.SIGKILL)
	h, _ := decodeHandle(tk.Status().Handle)
	must(t, unix.Kill(int(h.PID), unix.SIGKILL))
	poll(t, "the end of the task and of its zombie", func() bool {
		_, there := lookup(int(h.PID))
		return !there
	})
	d = p.daemon(t, opts, tk)
	ev := d.end(tk.Ref()).Event
	if ev.Kind != task.EventVanished || !strings.Contains(ev.Text, "its end was not seen") {
		t.Fatalf("event %+v", ev)
	}
}

// A time limit counts from the start, whoever enforces it.
func TestTimeLimitHoldsOverSupervisors(t *testing.T) {
	p := newPlace(t)
	d := p.daemon(t, p.options("q"))
	s := sh("sleep 1000")
	s.Timeout = 700 * time.Millisecond
	tk := assigned(t, 1, s)
	d.launch(tk)
	begin := d.await(tk.Ref(), task.EventStarted).Event.At
	p.signalSupervisor(t, unix.SIGKILL)
	d.await(tk.Ref(), task.EventStopping)
	ev := d.end(tk.Ref()).Event
	if took := ev.At.Sub(begin); ev.Kind != task.EventStopped || took < s.Timeout || took > s.Timeout+5*time.Second {
		t.Fatalf("%s after %s", ev.Kind, took)
	}
}

// SIGTERM makes a supervisor leave; tasks are not its to end.
func TestLeavingIsNotStopping(t *testing.T) {
	p := newPlace(t)
	d := p.daemon(t, p.options("q"))
	gate := filepath.Join(p.dir, "gate")
	tk := assigned(t, 1, sh(waitFor(gate)+"echo on"))
	d.launch(tk)
	d.await(tk.Ref(), task.EventStarted)
	first := p.supervisorPid(t)
	p.endSupervisor(t)
	p.awaitSupervisor(t, first)
	openGate(t, gate)
	d.end(tk.Ref())
	b, err := os.ReadFile(d.Layout().LogPath(tk.Ref()))
	if err != nil || string(b) != "on\n" {
		t.Fatalf("output %q, %v", b, err)
	}
}

// Whatever is killed, and whenever: no task runs twice, every attempt has an
// end, and one that ran to its end and was seen is not lost.
func TestStormOfKills(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	p := newPlace(t)
	opts := p.options("q")
	opts.Pool = func(task.Task) (string, int) { return "short", 4 }
	const n = 200
	ran := filepath.Join(p.dir, "ran")
	tasks := make(map[task.Seq]task.Task, n)
	var all []task.Task
	for seq := task.Seq(1); seq <= n; seq++ {
		tk := assigned(t, seq, sh(fmt.Sprintf("echo %d >> %s; sleep 0.0%d", seq, ran, rng.IntN(5))))
		tasks[seq] = tk
		all = append(all, tk)
	}
	d := p.daemon(t, opts)
	d.launch(all...)
	for range 8 {
		tk := all[rng.IntN(n)]
		d.await(tk.Ref(), append([]task.EventKind{task.EventStarted}, ends...)...)
		if rng.IntN(3) > 0 {
			p.signalSupervisor(t, unix.SIGKILL)
		}
		if rng.IntN(2) > 0 {
			d = d.replace(p, opts, tasks)
		}
	}
	counts := map[task.EventKind]int{}
	for _, tk := range all {
		counts[d.end(tk.Ref()).Event.Kind]++
	}
	t.Logf("ends: %v", counts)
	b, err := os.ReadFile(ran)
	must(t, err)
	seen := map[string]int{}
	for id := range strings.FieldsSeq(string(b)) {
		if seen[id]++; seen[id] > 1 {
			t.Errorf("task %s ran twice", id)
		}
	}
	if len(seen) < counts[task.EventExited] {
		t.Errorf("%d tasks ran, %d exited", len(seen), counts[task.EventExited])
	}
}

// replace kills the daemon and begins another, which takes over what its store
// holds: what was reported was stored, the rest is handed over again.
func (d *daemon) replace(p *place, opts Options, tasks map[task.Seq]task.Task) *daemon {
	d.t.Helper()
	d.stop()
	var active, again []task.Task
	d.mu.Lock()
	for seq, tk := range tasks {
		for _, c := range d.events[tk.Ref()] {
			if n, err := task.Apply(tk, c.Event); err == nil {
				tk = n
			}
		}
		tasks[seq] = tk
		switch {
		case tk.State() == task.Assigned:
			active, again = append(active, tk), append(again, tk)
		case tk.State().Active():
			active = append(active, tk)
		}
	}
	events := d.events
	d.mu.Unlock()
	next := p.daemonWith(d.t, opts, events, active...)
	next.launch(again...)
	return next
}
