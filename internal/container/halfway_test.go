package container

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// dying is an engine that is killed while it starts the first container.
type dying struct {
	Engine
	t     *testing.T
	e     *dockertest.Engine
	ran   bool                   // the program is running when the engine is killed
	until func(docker.Container) // what is waited for then
	once  chan struct{}
}

func (d *dying) Start(ctx context.Context, name string) error {
	select {
	case <-d.once:
	default:
		return d.Engine.Start(ctx, name)
	}
	if d.ran {
		must(d.t, d.Engine.Start(ctx, name))
		c, err := d.Inspect(ctx, name)
		must(d.t, err)
		d.until(c)
	}
	c, err := d.Inspect(ctx, name)
	must(d.t, err)
	must(d.t, d.e.Kill())
	if d.ran {
		forgetStart(d.t, d.e, c.ID)
	}
	must(d.t, d.e.Up())
	return docker.ErrAway
}

// forgetStart makes what an engine has written down of a container what it is right
// before it writes down that the container was started.
func forgetStart(t *testing.T, e *dockertest.Engine, id string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(filepath.Dir(e.Socket()), "*", "containers", id, "config.v2.json"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the engine's record of %s: %v, %v", id, found, err)
	}
	b, err := os.ReadFile(found[0])
	must(t, err)
	var all map[string]json.RawMessage
	must(t, json.Unmarshal(b, &all))
	var state map[string]any
	must(t, json.Unmarshal(all["State"], &state))
	state["Running"], state["Pid"], state["ExitCode"] = false, 0, 0
	state["StartedAt"], state["FinishedAt"] = time.Time{}, time.Time{}
	all["State"], err = json.Marshal(state)
	must(t, err)
	all["HasBeenStartedBefore"] = json.RawMessage("false")
	b, err = json.Marshal(all)
	must(t, err)
	must(t, os.WriteFile(found[0], b, 0o600))
}

// An engine that is killed while it starts a container does not have it run twice. With an
// init what it does not know to run is followed to its end; without, it is ended. What may
// have run is lost then, and what has not is started.
//
//nolint:tparallel // they kill one engine
func TestEngineKilledWhileItStarts(t *testing.T) {
	t.Parallel()
	e := dockertest.Start(t, dockertest.Config{LiveRestore: true})
	e.LoadShell(t)
	for _, c := range []struct {
		name, script, words string
		ran, plain          bool
		state               task.State
		class               task.FailureClass
	}{
		{"before it began", "true", "", false, false, task.Succeeded, task.NoFailure},
		{"while it runs", "sleep 3; exit 5", "exit code 5", true, false, task.Failed, task.UserError},
		{"after it has ended", "true", "", true, false, task.Succeeded, task.NoFailure},
		{"while it runs, without init", "sleep 1000", "was running, and was ended", true, true, task.Lost, task.Vanished},
		{"after it has ended, without init", "true", "does not know whether", true, true, task.Lost, task.Vanished},
	} {
		if c.script == "true" && c.ran && os.Getenv("DSPY_TEST_FULL") == "" {
			continue // much like the others, and each takes an engine's death
		}
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, e.Address())
			if c.plain {
				p.opts.Init = ""
			}
			runs := filepath.Join(t.TempDir(), "runs")
			awaited := func(is docker.Container) {
				poll(t, "the program", func() bool {
					b, err := os.ReadFile(runs)
					ended := c.script != "true" || len(kernel{}.of(is.ID)) == 0
					return err == nil && len(b) > 0 && ended
				})
			}
			p.opts.Engine = &dying{Engine: p.opts.Engine, t: t, e: e, ran: c.ran, until: awaited, once: full1()}
			d := p.daemon(t)
			s := sh("echo x >> " + runs + "; echo printed; " + c.script)
			s.Mounts = []task.Mount{{Host: filepath.Dir(runs), Target: filepath.Dir(runs)}}
			state, o := outcome(d.end(d.run(1, s)), 1)
			if state != c.state || o.Class != c.class || !strings.Contains(o.Message, c.words) {
				t.Errorf("%s: %+v", state, o)
			}
			if b, err := os.ReadFile(runs); err != nil || string(b) != "x\n" {
				t.Errorf("it ran so often: %q, %v", b, err)
			}
			if got := p.output(t, task.Ref{Seq: 1, Attempt: 1}); !c.plain && got != "printed\n" {
				t.Errorf("output %q", got)
			}
			if left := processesWith(t, runs); len(left) > 0 {
				t.Errorf("these run on: %v", left)
			}
		})
	}
}

// full1 is a channel from which one may take once.
func full1() chan struct{} {
	c := make(chan struct{}, 1)
	c <- struct{}{}
	return c
}

// What has run before a daemon came is told by the engine itself: what it made since it
// runs it knows all about.
func TestStartAgainAfterDaemonAlone(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	runs := filepath.Join(t.TempDir(), "runs")
	s := sh("echo x >> " + runs)
	s.Mounts = []task.Mount{{Host: filepath.Dir(runs), Target: filepath.Dir(runs)}}
	tk := assigned(t, 1, s)
	made := newRun(p.open(t), tk)
	made.b.is = docker.Engine{Version: "any"}
	must(t, made.prepare(t.Context(), tk))
	spec, no := made.spec(tk)
	if no != nil {
		t.Fatal(no.text)
	}
	_, err := p.opts.Engine.Create(t.Context(), spec)
	must(t, err)
	d := p.daemon(t)
	d.tasks[tk.Ref()] = tk
	must(t, d.Launch(t.Context(), []task.Task{tk}))
	if tk = d.end(tk); tk.State() != task.Succeeded {
		t.Errorf("%s: %+v", tk.State(), tk.Status().Outcome)
	}
	if b, err := os.ReadFile(runs); err != nil || string(b) != "x\n" {
		t.Errorf("it ran so often: %q, %v", b, err)
	}
}

// A program may end with the code that engines give to ends which they have not seen.
func TestOwnExitCode255(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	p.opts.Init = ""
	d := p.daemon(t)
	if _, o := outcome(d.end(d.run(1, sh("exit 255"))), 1); o.Class != task.UserError || o.ExitCode != 255 {
		t.Errorf("%+v", o)
	}
	tk := d.running(d.run(2, sh("sleep 1; exit 255")))
	d.stop()
	poll(t, "the end", func() bool {
		c, err := p.opts.Engine.Inspect(t.Context(), nameOf(p.opts.QueueID, tk.Ref()))
		return err == nil && c.Phase == docker.Exited
	})
	if _, o := outcome(p.daemon(t, tk).end(tk), 1); o.Class != task.UserError || o.ExitCode != 255 {
		t.Errorf("while nobody listened: %+v", o)
	}
}

// An engine that has lost a container with all that looked after it says that it ended
// with 255; one of 20.10 may even say 0. What it told before counts; without that the
// attempt is lost.
func TestEndThatNobodySaw(t *testing.T) {
	t.Parallel()
	e := dockertest.Start(t, dockertest.Config{LiveRestore: true})
	e.LoadShell(t)
	p := newPlace(t, e.Address())
	p.opts.Init = "" // without the engine's word there is none
	d := p.daemon(t)
	gate := filepath.Join(t.TempDir(), "gate")
	told, untold := d.run(1, gated(gate)), d.run(2, sh("sleep 1000"))
	d.running(told)
	c, err := p.opts.Engine.Inspect(t.Context(), nameOf(p.opts.QueueID, d.running(untold).Ref()))
	must(t, err)
	must(t, e.Kill())
	must(t, e.KillContainerd())
	for _, pid := range append(kernel{}.of(c.ID), shims(t, c.ID)...) {
		p, err := os.FindProcess(pid)
		must(t, err)
		if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
	}
	poll(t, "their end", func() bool { return len(kernel{}.of(c.ID)) == 0 })
	must(t, e.Up())
	tk := d.end(untold)
	if o := tk.Status().Outcome; tk.State() != task.Lost || o.Class != task.Vanished || !strings.Contains(o.Message, "255") {
		t.Errorf("%s: %+v", tk.State(), o)
	}
	must(t, os.WriteFile(gate, nil, 0o600))
	if _, o := outcome(d.end(told), 1); o.ExitCode != 5 {
		t.Errorf("the other one: %+v", o)
	}
}

// shims returns the processes that look after a container.
func shims(t *testing.T, id string) []int {
	t.Helper()
	var out []int
	for _, text := range processesWith(t, id) {
		file, _, _ := strings.Cut(text, ":")
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		must(t, err)
		out = append(out, pid)
	}
	return out
}

// What an engine told of an end counts for more than what it says after it was killed.
func TestToldEndCounts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		says, told, want int
		heard, past      bool
		seen             bool
	}{
		{says: 5, want: 5, seen: true},
		{says: 0, want: 0, seen: true},
		{says: 0, told: 5, heard: true, want: 5, seen: true},
		{says: 0, told: 255, heard: true, want: 0, seen: true}, // the engine's own word of a race
		{says: 255, told: 5, heard: true, want: 5, seen: true},
		{says: 255, told: 255, heard: true, want: 255, seen: true},
		{says: 255, told: 5, past: true, want: 5, seen: true},
		{says: 255, want: 255, seen: false},
	} {
		remembers := &remembering{}
		if c.past {
			remembers.past = []docker.Event{{Action: "create"}, died(c.told)}
		}
		r := newRun(&Backend{engine: remembers}, task.New(1, &task.Spec{ID: "a"}, 0))
		if c.heard {
			r.heard(died(c.told))
		}
		got, seen, err := r.witnessed(t.Context(), docker.Container{ExitCode: c.says, Finished: time.Now()})
		if err != nil || seen != c.seen || got.ExitCode != c.want {
			t.Errorf("%+v: %d, %v, %v", c, got.ExitCode, seen, err)
		}
	}
}

func died(code int) docker.Event {
	return docker.Event{Action: "die", Labels: map[string]string{"exitCode": strconv.Itoa(code)}}
}

// remembering is an engine of which only the past is asked.
type remembering struct {
	Engine
	past []docker.Event
}

func (r *remembering) Past(context.Context, string) ([]docker.Event, error) { return r.past, nil }
