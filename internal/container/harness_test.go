package container

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// patience is how long a test waits for what has to come.
const patience = 2 * time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// place is what outlives a daemon: a queue's folder, and its containers at an engine.
type place struct {
	opts Options
}

// newPlace makes a place at the engine that listens at an address. What is left of its
// containers goes with the test.
func newPlace(t testing.TB, address string) *place {
	t.Helper()
	c, err := docker.New(docker.Options{Host: address})
	must(t, err)
	p := &place{opts: Options{
		QueueID: strings.ToLower(rand.Text()), TasksDir: filepath.Join(t.TempDir(), "tasks"), Engine: c,
		UID: os.Getuid(), GID: os.Getgid(), Init: dockertest.Init(t),
		Logger: slog.New(slog.NewTextHandler(logWriter{t, &sync.Mutex{}}, nil)),
		Rules:  Rules{Mounts: []string{os.TempDir()}},
	}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		all, err := c.List(ctx, labelQueue+"="+p.opts.QueueID)
		if err != nil {
			t.Errorf("list what is left: %v", err)
		}
		for _, l := range all {
			if err := c.Remove(ctx, l.ID); err != nil {
				t.Errorf("remove what is left: %v", err)
			}
		}
		must(t, c.Close())
	})
	return p
}

// logWriter puts the log into that of the test.
type logWriter struct {
	t  testing.TB
	mu *sync.Mutex
}

func (w logWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Log(string(bytes.TrimSpace(b)))
	return len(b), nil
}

func (p *place) open(t testing.TB) *Backend {
	t.Helper()
	b, err := New(p.opts)
	must(t, err)
	return b
}

func (p *place) output(t *testing.T, ref task.Ref) string {
	t.Helper()
	b, err := os.ReadFile(taskfiles.Layout{Dir: p.opts.TasksDir}.LogPath(ref))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// daemon is a backend that is watched.
type daemon struct {
	*Backend
	t    testing.TB
	stop func()

	mu    sync.Mutex
	tasks map[task.Ref]task.Task
	moved chan struct{}
}

// daemon begins one over what the store says is active.
func (p *place) daemon(t testing.TB, active ...task.Task) *daemon {
	t.Helper()
	d := &daemon{Backend: p.open(t), t: t, tasks: map[task.Ref]task.Task{}, moved: make(chan struct{})}
	for _, tk := range active {
		d.tasks[tk.Ref()] = tk
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Watch(ctx, active, d.sink); err != nil {
			t.Error(err)
		}
	}()
	d.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(d.stop)
	return d
}

func (d *daemon) sink(changes []task.Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range changes {
		ref := task.Ref{Seq: c.Seq, Attempt: c.Event.Attempt}
		n, err := task.Apply(d.tasks[ref], c.Event)
		switch {
		case err == nil:
			d.tasks[ref] = n
		case !errors.Is(err, task.ErrStale):
			d.t.Errorf("task %d: %v", c.Seq, err)
		}
	}
	close(d.moved)
	d.moved = make(chan struct{})
}

// await waits until something is so, and looks each time something was reported, as long as
// anything is.
func (d *daemon) await(what string, ok func() bool) {
	d.t.Helper()
	for {
		late := time.After(patience)
		d.mu.Lock()
		moved := d.moved
		d.mu.Unlock()
		if ok() {
			return
		}
		select {
		case <-moved:
		case <-late:
			d.t.Fatalf("%s does not come (down: %q)", what, d.Down())
		}
	}
}

func (d *daemon) get(ref task.Ref) task.Task {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tasks[ref]
}

// run hands over a task that runs a script in the image with a shell.
func (d *daemon) run(seq task.Seq, s task.Spec) task.Task {
	d.t.Helper()
	tk := assigned(d.t, seq, s)
	d.mu.Lock()
	d.tasks[tk.Ref()] = tk
	d.mu.Unlock()
	must(d.t, d.Launch(context.Background(), []task.Task{tk}))
	return tk
}

func assigned(t testing.TB, seq task.Seq, s task.Spec) task.Task {
	t.Helper()
	return leased(t, seq, s, task.Lease{})
}

// leased is a task that was placed with what the lease holds.
func leased(t testing.TB, seq task.Seq, s task.Spec, lease task.Lease) task.Task {
	t.Helper()
	s.ID, s.Class = "task", "cpu_short"
	if s.Image == "" {
		s.Image = dockertest.Shell
	}
	tk, err := task.Apply(task.New(seq, &s, 0), task.Event{Kind: task.EventPlaced, At: task.At(time.Now()), Attempt: 1, Backend: Name, Lease: lease})
	must(t, err)
	return tk
}

func sh(script string) task.Spec { return task.Spec{Argv: []string{"/bin/sh", "-c", script}} }

func (d *daemon) running(tk task.Task) task.Task {
	d.t.Helper()
	d.await("the start", func() bool { return d.get(tk.Ref()).State() >= task.Running })
	return d.get(tk.Ref())
}

func (d *daemon) end(tk task.Task) task.Task {
	d.t.Helper()
	ended := func(n task.Task) bool { return n.State().Terminal() || n.Attempt() > tk.Attempt() }
	d.await("the end", func() bool { return ended(d.get(tk.Ref())) })
	return d.get(tk.Ref())
}

// outcome is how an attempt ended, also where another one follows.
func outcome(tk task.Task, attempt int) (task.State, task.Outcome) {
	st := tk.Status()
	for _, p := range st.Past {
		if p.Number == attempt {
			return p.State, p.Outcome
		}
	}
	return st.State, st.Outcome
}

// poll waits for what nobody tells about.
func poll(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s does not come", what)
		}
	}
}

// result is what an attempt gave back.
func (d *daemon) result(ref task.Ref) task.Result {
	d.Backend.mu.Lock()
	defer d.Backend.mu.Unlock()
	if r := d.runs[ref]; r != nil && len(r.history) > 0 {
		return r.history[len(r.history)-1].Result
	}
	return nil
}
