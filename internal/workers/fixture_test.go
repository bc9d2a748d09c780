package workers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// fakeRemains are what a test says that a supervisor has written.
type fakeRemains struct {
	mu     sync.Mutex
	lives  bool
	broken bool  // it is not whole
	err    error // of Look
	unread error // of results
	facts  map[task.Ref][]task.Change
	onLook func()
}

func (r *fakeRemains) set(f func(r *fakeRemains)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r)
}

func (r *fakeRemains) Look() error {
	if r.onLook != nil {
		r.onLook()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *fakeRemains) Whole() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.broken && r.err == nil
}

func (r *fakeRemains) Lives() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lives
}

func (r *fakeRemains) Of(ref task.Ref) ([]task.Change, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changes, ok := r.facts[ref]
	return changes, ok, r.unread
}

// fixture is a backend, and what it reports.
type fixture struct {
	*Backend
	t       testing.TB
	remains *fakeRemains

	mu    sync.Mutex
	tasks map[task.Seq]task.Task
}

// newFixture makes a backend. Options that a test does not set are made up.
func newFixture(t testing.TB, o Options) *fixture {
	t.Helper()
	f := &fixture{t: t, remains: &fakeRemains{facts: map[task.Ref][]task.Change{}}, tasks: map[task.Seq]task.Task{}}
	o.Dir, o.QueueID, o.Logger = filepath.Join(t.TempDir(), "workers"), "queue", slog.New(slog.DiscardHandler)
	o.Remains = func(string) (Remains, error) { return f.remains, nil }
	o.Answer = func(context.Context, lease.Owner, lease.Call) lease.Reply { return lease.Reply{Failed: true} }
	b, err := New(o)
	if err := errors.Join(err, os.MkdirAll(o.Dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	f.Backend = b
	return f
}

// watch has the backend watched until the test ends, or end is called.
func (f *fixture) watch(active ...task.Task) (end func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan error, 1)
	for _, t := range active {
		f.tasks[t.Seq] = t
	}
	go func() { done <- f.Watch(ctx, active, f.sink) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Error(err)
		}
	})
	f.t.Cleanup(end)
	return end
}

func (f *fixture) sink(changes []task.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range changes {
		n, err := task.Apply(f.tasks[c.Seq], c.Event)
		if err != nil && !errors.Is(err, task.ErrStale) {
			f.t.Errorf("%v: %+v", err, c.Event)
		}
		if err == nil {
			f.tasks[c.Seq] = n
		}
	}
}

// of returns a task as its reports say that it is.
func (f *fixture) of(seq task.Seq) task.Task {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tasks[seq]
}

// placed makes tasks that are placed here.
func (f *fixture) placed(n int) (out []task.Task) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for range n {
		seq := task.Seq(len(f.tasks) + 1)
		s := &task.Spec{ID: fmt.Sprint("t", seq), Class: "short", Argv: []string{"true"}}
		t, err := task.Apply(task.New(seq, s, 0), task.Event{Kind: task.EventPlaced, At: 1, Attempt: 1, Backend: Name})
		if err != nil {
			f.t.Fatal(err)
		}
		f.tasks[seq] = t
		out = append(out, t)
	}
	return out
}

// worker makes the folder of one, and returns its id. Where the card says no place it is
// of this host, and lives.
func (f *fixture) worker(name string, c lease.Card) lease.Folder {
	f.t.Helper()
	self, err := host.Self()
	if c.Where == (host.Identity{}) {
		c.Process, c.Where = self, f.here
	}
	if c.CPUMilli == 0 {
		c.CPUMilli = 1000
	}
	folder := lease.FolderOf(f.opts.Dir, name+strings.Repeat("a", 8))
	if err := errors.Join(err, folder.Make(c)); err != nil {
		f.t.Fatal(err)
	}
	return folder
}

// far is a place on another host.
func far(name string) host.Identity {
	return host.Identity{Machine: "another machine", Boot: "another boot", PIDs: 1, Name: name}
}

// lease has a worker ask for attempts, and claim them.
func (f *fixture) lease(w lease.Folder, room int, seen uint64) lease.Grant {
	f.t.Helper()
	g, err := f.Lease(f.t.Context(), lease.Want{Worker: w.ID(), Room: room, Hold: room, Seen: seen})
	if err != nil {
		f.t.Fatal(err)
	}
	return g
}

func (f *fixture) claim(w lease.Folder, g lease.Grant) {
	f.t.Helper()
	for _, t := range g.Tasks {
		if ok, err := w.Claim(t.Ref(), g.Lease); !ok || err != nil {
			f.t.Fatalf("claimed: %t, %v", ok, err)
		}
	}
}

func (f *fixture) launch(tasks ...task.Task) {
	f.t.Helper()
	if err := f.Launch(f.t.Context(), tasks); err != nil {
		f.t.Fatal(err)
	}
}

// ran are the changes of an attempt that ended well.
func ran(ref task.Ref) []task.Change {
	return slices.Concat(began(ref), []task.Change{{Seq: ref.Seq, Event: task.Event{Kind: task.EventExited, At: 4, Attempt: ref.Attempt, Unprompted: true}}})
}

// began are those of one that runs.
func began(ref task.Ref) []task.Change {
	return []task.Change{
		{Seq: ref.Seq, Event: task.Event{Kind: task.EventLaunched, At: 2, Attempt: ref.Attempt}},
		{Seq: ref.Seq, Event: task.Event{Kind: task.EventStarted, At: 3, Attempt: ref.Attempt}},
	}
}
