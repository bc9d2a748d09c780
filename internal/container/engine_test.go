package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// gated is a program that prints lines until a file is there, and then ends.
func gated(gate string) task.Spec {
	s := sh("i=0; while [ ! -e " + gate + " ]; do echo line $i; i=$((i+1)); sleep 0.02; done; echo $i lines; exit 5")
	s.Mounts = []task.Mount{{Host: filepath.Dir(gate), Target: filepath.Dir(gate)}}
	return s
}

// wantLines ends the test unless an output is that of a gated program, whole.
func wantLines(t *testing.T, output string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(output, "\n"), "\n")
	for i, l := range lines[:len(lines)-1] {
		if l != fmt.Sprintf("line %d", i) {
			t.Fatalf("line %d of %d is %q", i, len(lines), l)
		}
	}
	if want := fmt.Sprintf("%d lines", len(lines)-1); lines[len(lines)-1] != want {
		t.Fatalf("the last of %d lines is %q, want %q", len(lines), lines[len(lines)-1], want)
	}
}

// An engine that lets containers live is killed and comes back: nothing is noticed of
// it but a wait.
func TestEngineKilledAndContainersLive(t *testing.T) {
	t.Parallel()
	e := dockertest.Start(t, dockertest.Config{LiveRestore: true})
	e.LoadShell(t)
	p := newPlace(t, e.Address())
	gate := filepath.Join(t.TempDir(), "gate")
	d := p.daemon(t)
	first, second := d.run(1, gated(gate)), d.run(2, gated(gate))
	d.running(first)
	second = d.running(second)
	must(t, e.Kill())
	poll(t, "the word that it is away", func() bool { return d.Down() != "" })
	d.stop() // and the daemon with it
	d2 := p.daemon(t, d.get(first.Ref()), second)
	must(t, e.Up())
	poll(t, "the word that it is back", func() bool { return d2.Down() == "" })
	must(t, os.WriteFile(gate, nil, 0o644))
	for _, tk := range []task.Task{first, second} {
		tk = d2.end(tk)
		if o := tk.Status().Outcome; tk.State() != task.Failed || o.ExitCode != 5 || o.Class != task.UserError {
			t.Errorf("%s: %+v", tk.State(), o)
		}
		wantLines(t, p.output(t, tk.Ref()))
	}
}

// An engine that takes its containers with it is killed: that is the machine's trouble,
// and the work is done again.
func TestEngineKilledWithContainers(t *testing.T) {
	t.Parallel()
	for what, fell := range map[string]func(*dockertest.Engine) error{"killed": (*dockertest.Engine).Kill, "stopped": (*dockertest.Engine).Stop} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e := dockertest.Start(t, dockertest.Config{})
			e.LoadShell(t)
			p := newPlace(t, e.Address())
			d := p.daemon(t)
			tk := d.run(1, sh("echo begun; sleep 1000"))
			d.running(tk)
			must(t, fell(e))
			must(t, e.Up())
			state, o := outcome(d.end(tk), 1)
			if state != task.Failed || o.Class != task.NodeLost {
				t.Errorf("%s: %+v", state, o)
			}
			if got := p.output(t, tk.Ref()); got != "begun\n" {
				t.Errorf("output %q", got)
			}
		})
	}
}

// The socket is cut for a while, and slow: ends that came meanwhile are told, with all
// of the output, and tasks handed over meanwhile begin once.
func TestEngineOutOfReach(t *testing.T) {
	t.Parallel()
	e := dockertest.Shared(t, dockertest.Config{})
	e.LoadShell(t)
	proxy := dockertest.NewProxy(t, e)
	p := newPlace(t, proxy.Address())
	dir := t.TempDir()
	gate := filepath.Join(dir, "gate")
	d := p.daemon(t)
	tk := d.run(1, gated(gate))
	d.running(tk)
	limited := sh("sleep 1000")
	limited.Timeout = 3 * time.Second
	late := d.run(2, limited)
	d.running(late)
	proxy.Cut()
	poll(t, "the word that it is away", func() bool { return d.Down() != "" })
	must(t, os.WriteFile(gate, nil, 0o644))
	once := sh("echo x >> " + filepath.Join(dir, "runs"))
	once.Mounts = []task.Mount{{Host: dir, Target: dir}}
	meanwhile := d.run(3, once)
	proxy.Slow(50 * time.Millisecond)
	must(t, proxy.Repair())
	if o := d.end(tk).Status().Outcome; o.ExitCode != 5 {
		t.Errorf("outcome %+v", o)
	}
	wantLines(t, p.output(t, tk.Ref()))
	if o := d.end(late).Status().Outcome; o.Class != task.Timeout {
		t.Errorf("outcome %+v", o)
	}
	if got := d.end(meanwhile); got.State() != task.Succeeded {
		t.Errorf("%s: %+v", got.State(), got.Status().Outcome)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "runs")); err != nil || string(b) != "x\n" {
		t.Errorf("it ran so often: %q, %v", b, err)
	}
}

// An engine that is stopped, and so keeps its connections, is away as well: tasks wait and
// say so, and go on when it does.
func TestEngineHangs(t *testing.T) {
	t.Parallel()
	e := dockertest.Start(t, dockertest.Config{})
	e.LoadShell(t)
	p := newPlace(t, e.Address())
	c, err := docker.New(docker.Options{Host: e.Address(), Pulse: 500 * time.Millisecond})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	p.opts.Engine = c
	d := p.daemon(t)
	gate := filepath.Join(t.TempDir(), "gate")
	tk := d.run(1, gated(gate))
	d.running(tk)
	pid, err := e.PID()
	must(t, err)
	must(t, unix.Kill(pid, unix.SIGSTOP))
	defer unix.Kill(pid, unix.SIGCONT)
	poll(t, "the word that it hangs", func() bool { return strings.Contains(d.Down(), "hangs or is stopped") })
	must(t, os.WriteFile(gate, nil, 0o644))
	meanwhile := d.run(2, sh("exit 3"))
	must(t, unix.Kill(pid, unix.SIGCONT))
	for tk, code := range map[task.Ref]int{tk.Ref(): 5, meanwhile.Ref(): 3} {
		d.await("the end", func() bool { return d.get(tk).State().Terminal() })
		if _, o := outcome(d.get(tk), 1); o.ExitCode != code {
			t.Errorf("task %d: %+v", tk.Seq, o)
		}
	}
	wantLines(t, p.output(t, tk.Ref()))
	poll(t, "the word that it is back", func() bool { return d.Down() == "" })
}

// Daemon and engine are killed at random while containers run: each runs once, hardly one is
// lost and none without a word, nothing runs on that nobody knows of, and the output of all
// others is whole.
func TestKilledAtRandom(t *testing.T) {
	t.Parallel()
	seed := randomSeed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	e := dockertest.Start(t, dockertest.Config{LiveRestore: true})
	e.LoadShell(t)
	p := newPlace(t, e.Address())
	c := &chaos{t: t, e: e, p: p, dir: t.TempDir()}
	n, kills, pauses := task.Seq(12), 6, 2*time.Second
	if full() {
		n, kills, pauses = 200, 40, 8*time.Second // from the first start to the last end
	}
	for seq := task.Seq(1); seq <= n; seq++ {
		s := sh(fmt.Sprintf("echo x >> %s/runs-%d; i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); sleep 0.1; done; echo $i lines; exit 5", c.dir, seq, 10+rng.IntN(60)))
		s.Mounts = []task.Mount{{Host: c.dir, Target: c.dir}}
		c.tasks = append(c.tasks, assigned(t, seq, s))
	}
	c.d = p.daemon(t)
	c.hand()
	for range kills {
		pause := time.NewTimer(time.Duration(rng.Int64N(int64(pauses))))
		<-pause.C // polls: it is the time at which something is killed
		which := rng.IntN(3)
		if which != 0 {
			must(t, e.Kill())
		}
		if which != 1 {
			c.succeed()
		}
		if which != 0 {
			must(t, e.Up())
		}
	}
	var sum tally
	for i := range c.tasks {
		c.await(c.ref(i))
		sum.add(c, c.d.get(c.ref(i)))
	}
	if pids := processesWith(t, c.dir); len(pids) > 0 {
		t.Errorf("these processes run on: %v", pids)
	}
	t.Logf("%d tasks, %d kills: %d ended as they should, %d did not begin and are tried again, %d are lost and say so; the output of %d is whole to the byte, of %d it is not",
		n, kills, sum.ended, sum.again, sum.lost, sum.whole, sum.cut)
	// One that has just begun may be cleared away by an engine that starts it once more.
	if most := 1 + kills/10; sum.lost > most || sum.cut > sum.lost {
		t.Errorf("%d are lost, and the output of %d is not whole; by %d kills %d may be lost", sum.lost, sum.cut, kills, most)
	}
}

// chaos is a daemon that is killed while it runs tasks.
type chaos struct {
	t     *testing.T
	e     *dockertest.Engine
	p     *place
	d     *daemon
	dir   string
	tasks []task.Task
}

// ref is the first attempt of a task: no other is made.
func (c *chaos) ref(i int) task.Ref { return task.Ref{Seq: task.Seq(i + 1), Attempt: 1} }

// await waits for the end of an attempt, and says how it stands when that does not come.
func (c *chaos) await(ref task.Ref) {
	defer func() {
		if state, _ := outcome(c.d.get(ref), 1); !state.Terminal() {
			is, err := c.p.opts.Engine.Inspect(context.Background(), nameOf(c.p.opts.QueueID, ref))
			c.t.Errorf("task %d is %s; its container: %+v, %v; its processes: %v", ref.Seq, state, is, err, kernel{}.of(is.ID))
		}
	}()
	c.d.await("the end", func() bool { state, _ := outcome(c.d.get(ref), 1); return state.Terminal() })
}

// hand hands over what is not with the backend, as the engine's loop does.
func (c *chaos) hand() {
	for i := range c.tasks {
		if now := c.d.get(c.ref(i)); now.Spec != nil {
			c.tasks[i] = now
		}
		if c.tasks[i].State() == task.Assigned {
			c.d.mu.Lock()
			c.d.tasks[c.ref(i)] = c.tasks[i]
			c.d.mu.Unlock()
			must(c.t, c.d.Launch(c.t.Context(), []task.Task{c.tasks[i]}))
		}
	}
}

// succeed puts a new daemon in the place of the old one.
func (c *chaos) succeed() {
	c.d.stop()
	var active []task.Task
	for i := range c.tasks {
		if c.tasks[i] = c.d.get(c.ref(i)); c.tasks[i].State().Active() {
			active = append(active, c.tasks[i])
		}
	}
	old := c.d
	c.d = c.p.daemon(c.t, active...)
	c.d.mu.Lock()
	for ref, tk := range old.tasks {
		if _, known := c.d.tasks[ref]; !known {
			c.d.tasks[ref] = tk
		}
	}
	c.d.mu.Unlock()
	c.hand()
}

// tally is what became of the tasks.
type tally struct{ ended, again, lost, whole, cut int }

func (s *tally) add(c *chaos, tk task.Task) {
	runs, err := os.ReadFile(fmt.Sprintf("%s/runs-%d", c.dir, tk.Seq))
	once := err == nil && string(runs) == "x\n"
	state, o := outcome(tk, 1)
	switch {
	case state == task.Failed && o.ExitCode == 5 && once:
		s.ended++
	case state == task.Lost && o.Message != "" && (once || errors.Is(err, fs.ErrNotExist)):
		s.lost++
		c.t.Logf("task %d is lost: %s", tk.Seq, o.Message)
	case state == task.Failed && o.Class == task.CouldNotStart && errors.Is(err, fs.ErrNotExist):
		s.again++
		return
	default:
		c.t.Errorf("task %d %s: %+v; it ran so often: %q, %v", tk.Seq, state, o, runs, err)
	}
	output := c.p.output(c.t, task.Ref{Seq: tk.Seq, Attempt: 1})
	if strings.HasSuffix(output, " lines\n") {
		s.whole++
	} else {
		s.cut++
		output += fmt.Sprintf("%d lines\n", strings.Count(output, "\n"))
	}
	wantLines(c.t, output)
}

// randomSeed is from DSPY_TEST_SEED, or new; it is printed.
func randomSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("DSPY_TEST_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		must(t, err)
	}
	t.Logf("DSPY_TEST_SEED=%d", seed)
	return seed
}

// processesWith returns the processes with a text in their command line.
func processesWith(t *testing.T, text string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	var out []string
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), text) {
			out = append(out, f+": "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return out
}

// A store that is full is said to be that, and the work is done when there is room.
func TestEngineDiskFull(t *testing.T) {
	t.Parallel()
	e := dockertest.Start(t, dockertest.Config{Store: "64m"})
	e.LoadShell(t)
	p := newPlace(t, e.Address())
	d := p.daemon(t)
	poll(t, "the engine", func() bool { return d.Down() == "" })
	dir := t.TempDir()
	fill := sh("dd if=/dev/zero of=/tmp/full bs=1M; dd if=/dev/zero of=/tmp/rest bs=1k; touch " + dir + "/full; sleep 1000")
	fill.Mounts = []task.Mount{{Host: dir, Target: dir}}
	filler := d.run(1, fill)
	poll(t, "the full disk", func() bool { // its output would have to be stored there as well
		_, err := os.Stat(filepath.Join(dir, "full"))
		return err == nil
	})
	tk := d.run(2, sh("true"))
	if state, o := outcome(d.end(tk), 1); state != task.Failed || o.Class != task.CouldNotStart || !strings.Contains(o.Message, "space") {
		t.Errorf("on a full disk: %s, %+v", state, o)
	}
	must(t, p.opts.Engine.Remove(t.Context(), nameOf(p.opts.QueueID, filler.Ref())))
	if tk := d.end(d.run(3, sh("true"))); tk.State() != task.Succeeded {
		t.Errorf("when there is room again: %s, %+v", tk.State(), tk.Status().Outcome)
	}
}
