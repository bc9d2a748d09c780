package backendtest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// patience is how long the suite waits for what has to come.
const patience = 30 * time.Second

// engine is the least that a backend's caller is: it keeps tasks as a store
// would, and applies what is reported. It outlives its daemons.
type engine struct {
	t     *testing.T
	place Place

	mu      sync.Mutex
	tasks   map[task.Seq]task.Task
	results map[task.Seq]task.Result
	ends    map[task.Ref]int
	moved   chan struct{}

	backend Backend
	leave   func() // ends the present daemon
}

func newEngine(t *testing.T, place Place) *engine {
	e := &engine{
		t: t, place: place, tasks: map[task.Seq]task.Task{}, results: map[task.Seq]task.Result{},
		ends: map[task.Ref]int{}, moved: make(chan struct{}),
	}
	e.restart()
	t.Cleanup(func() { e.leave() })
	return e
}

// restart ends the daemon, if there is one, and begins another over the same
// place and the same store.
func (e *engine) restart() {
	e.t.Helper()
	if e.leave != nil {
		e.leave()
	}
	e.backend = e.place.Open(e.t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	active := e.active()
	go func() { done <- e.backend.Watch(ctx, active, e.sink) }()
	e.leave = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			e.t.Errorf("Watch: %v", err)
		}
	})
}

func (e *engine) active() []task.Task {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []task.Task
	for _, t := range e.tasks {
		if t.State().Active() {
			out = append(out, t)
		}
	}
	return out
}

// sink applies reports, and complains about those that no backend may make.
func (e *engine) sink(changes []task.Change) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range changes {
		t, ok := e.tasks[c.Seq]
		if !ok {
			e.t.Errorf("a report about task %d, which was never handed over", c.Seq)
			continue
		}
		n, err := task.Apply(t, c.Event)
		switch {
		case errors.Is(err, task.ErrStale):
		case err != nil:
			e.t.Errorf("task %d is %s: %v (%+v)", c.Seq, t.State(), err, c.Event)
		default:
			e.tasks[c.Seq] = n
			if n.State().Terminal() || n.Attempt() != t.Attempt() {
				e.ends[t.Ref()]++
			}
			if c.Result != nil {
				e.results[c.Seq] = c.Result
			}
		}
	}
	close(e.moved)
	e.moved = make(chan struct{})
}

// assign makes a task Assigned, without handing it over.
func (e *engine) assign(seq task.Seq, s task.Spec) task.Task {
	e.t.Helper()
	s.ID, s.Class = "task", "cpu_short"
	if s.Env == nil {
		s.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	}
	if e.place.Spec != nil {
		e.place.Spec(&s)
	}
	t := e.apply(task.New(seq, &s, 0), task.Event{Kind: task.EventPlaced, At: task.At(time.Now()), Backend: e.backend.Name()})
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tasks[seq] = t
	return t
}

func (e *engine) apply(t task.Task, ev task.Event) task.Task {
	e.t.Helper()
	ev.Attempt = t.Attempt()
	n, err := task.Apply(t, ev)
	if err != nil {
		e.t.Fatal(err)
	}
	return n
}

// launch hands tasks over.
func (e *engine) launch(tasks ...task.Task) {
	e.t.Helper()
	if err := e.backend.Launch(e.t.Context(), tasks); err != nil {
		e.t.Fatalf("Launch: %v (down: %q)", err, e.backend.Down())
	}
}

// run assigns one task and hands it over.
func (e *engine) run(seq task.Seq, s task.Spec) task.Task {
	e.t.Helper()
	t := e.assign(seq, s)
	e.launch(t)
	return t
}

// cancel stores the wish that a task should end, and acts on it.
func (e *engine) cancel(seq task.Seq) {
	e.t.Helper()
	e.stop(e.stopping(seq))
}

// stopping stores the wish that a task should end.
func (e *engine) stopping(seq task.Seq) task.Task {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.tasks[seq]
	now := task.At(time.Now())
	if t.State().Active() && t.State() != task.Stopping {
		t = e.apply(t, task.Event{Kind: task.EventCancelAsked, At: now, By: "the test"})
		t = e.apply(t, task.Event{Kind: task.EventStopping, At: now, Cause: task.CauseCancel})
		e.tasks[seq] = t
	}
	return t
}

func (e *engine) stop(t task.Task) {
	e.t.Helper()
	if err := e.backend.Stop(e.t.Context(), t); err != nil {
		e.t.Fatalf("Stop: %v", err)
	}
}

// put replaces a task in the store: a daemon that is killed may not have stored
// what it was told.
func (e *engine) put(t task.Task) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tasks[t.Seq] = t
}

// wantOneEnd ends the test if an attempt did not end exactly once.
func (e *engine) wantOneEnd(ref task.Ref) {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := e.ends[ref]; n != 1 {
		e.t.Fatalf("%v ended %d times", ref, n)
	}
}

// get returns a task as it is now.
func (e *engine) get(seq task.Seq) task.Task {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.tasks[seq]
}

// result returns what a task gave back.
func (e *engine) result(seq task.Seq) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return string(e.results[seq])
}

// await waits until the task is as wanted, as long as there is news of any.
func (e *engine) await(seq task.Seq, what string, ok func(task.Task) bool) task.Task {
	e.t.Helper()
	for {
		late := time.After(max(patience, e.place.Patience))
		e.mu.Lock()
		t, moved := e.tasks[seq], e.moved
		e.mu.Unlock()
		if ok(t) {
			return t
		}
		select {
		case <-moved:
		case <-late:
			e.t.Fatalf("task %d is %s, and does not become %s (down: %q)", seq, t.State(), what, e.backend.Down())
		}
	}
}

// awaitRunning waits until a task runs.
func (e *engine) awaitRunning(seq task.Seq) {
	e.t.Helper()
	e.await(seq, "running", runs)
}

func runs(t task.Task) bool { return t.State() >= task.Running }

// awaitOneRunning waits until one of several tasks runs, and says which.
func (e *engine) awaitOneRunning(seqs []task.Seq) (running task.Seq) {
	e.t.Helper()
	e.await(seqs[0], "running, nor does another", func(task.Task) bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		i := slices.IndexFunc(seqs, func(seq task.Seq) bool { return runs(e.tasks[seq]) })
		if i >= 0 {
			running = seqs[i]
		}
		return i >= 0
	})
	return running
}

// end waits for the end.
func (e *engine) end(seq task.Seq) task.Task {
	e.t.Helper()
	return e.await(seq, "ended", func(t task.Task) bool { return t.State().Terminal() })
}

// want ends the test if the task did not end so.
func (e *engine) want(t task.Task, s task.State) task.Outcome {
	e.t.Helper()
	o := t.Status().Outcome
	if t.State() != s {
		e.t.Fatalf("task %d %s, want %s: %+v; output %q", t.Seq, t.State(), s, o, e.place.Output(e.t, t.Ref()))
	}
	return o
}

// forget tells the backend that the ends are stored.
func (e *engine) forget(refs ...task.Ref) {
	e.t.Helper()
	if err := e.backend.Forget(e.t.Context(), refs); err != nil {
		e.t.Fatalf("Forget: %v", err)
	}
}
