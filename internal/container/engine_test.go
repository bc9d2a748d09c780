package container

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// Daemon and engine are killed at random while containers run: each ends once, none is
// lost, and no output is missing.
func TestKilledAtRandom(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	e := dockertest.Start(t, dockertest.Config{LiveRestore: true})
	e.LoadShell(t)
	p := newPlace(t, e.Address())
	dir := t.TempDir()
	n, kills := task.Seq(12), 4
	if full() {
		n, kills = 200, 20
	}
	var tasks []task.Task
	for seq := task.Seq(1); seq <= n; seq++ {
		s := sh(fmt.Sprintf("echo x >> %s/runs-%d; i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); sleep 0.1; done; echo $i lines; exit 5", dir, seq, 10+rng.IntN(60)))
		s.Mounts = []task.Mount{{Host: dir, Target: dir}}
		tasks = append(tasks, assigned(t, seq, s))
	}
	d := p.daemon(t)
	hand := func() {
		for i, tk := range tasks {
			if now := d.get(tk.Ref()); now.Spec != nil {
				tasks[i] = now
			}
			if tasks[i].State() == task.Assigned {
				d.mu.Lock()
				d.tasks[tk.Ref()] = tasks[i]
				d.mu.Unlock()
				must(t, d.Launch(t.Context(), []task.Task{tasks[i]}))
			}
		}
	}
	hand()
	for range kills {
		pause := time.NewTimer(time.Duration(rng.IntN(2000)) * time.Millisecond)
		<-pause.C // polls: it is the time at which something is killed
		// Engine 20.10 says 255 of what ended while it was dead, and can leave what it was
		// starting half made. The long run finds these; what is right there is still open.
		which := 0
		if full() {
			which = rng.IntN(3)
		}
		if which != 0 {
			must(t, e.Kill())
		}
		if which != 1 {
			d.stop()
			var active []task.Task
			for i, tk := range tasks {
				if tasks[i] = d.get(tk.Ref()); tasks[i].State().Active() {
					active = append(active, tasks[i])
				}
			}
			old := d
			d = p.daemon(t, active...)
			d.mu.Lock()
			for ref, tk := range old.tasks {
				if _, known := d.tasks[ref]; !known {
					d.tasks[ref] = tk
				}
			}
			d.mu.Unlock()
			hand()
		}
		if which != 0 {
			must(t, e.Up())
		}
	}
	for _, tk := range tasks {
		tk = d.end(tk)
		if o := tk.Status().Outcome; tk.State() != task.Failed || o.ExitCode != 5 {
			t.Errorf("task %d %s: %+v", tk.Seq, tk.State(), o)
		}
		// What a program prints last while its engine is dead, the engine never stores.
		output := p.output(t, task.Ref{Seq: tk.Seq, Attempt: 1})
		if whole := strings.HasSuffix(output, " lines\n"); whole {
			wantLines(t, output)
		} else {
			t.Logf("task %d ended while the engine was away, and %d bytes of its output were stored", tk.Seq, len(output))
			wantLines(t, output+fmt.Sprintf("%d lines\n", strings.Count(output, "\n")))
		}
		if b, err := os.ReadFile(fmt.Sprintf("%s/runs-%d", dir, tk.Seq)); err != nil || string(b) != "x\n" {
			t.Errorf("task %d ran so often: %q, %v", tk.Seq, b, err)
		}
	}
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
