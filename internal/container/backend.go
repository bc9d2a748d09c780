package container

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// Name is the name of this backend in task.Status.Backend.
const Name = "container"

// connecting is why nothing can be handed over before the engine was reached.
const connecting = "asking for the container engine"

// mostStarting is how many containers are made and started at a time. An engine does
// the larger part of it one after the other, so more would only wait inside it.
const mostStarting = 4

// Backend runs attempts in containers. The containers belong to the engine, so a
// Backend can go away and come back at any time.
type Backend struct {
	opts   Options
	layout taskfiles.Layout
	engine Engine
	node   string
	procs  processes
	images *images
	pulled *pulled
	inits  inits
	starts chan struct{} // has room while fewer than mostStarting are being started

	mu       sync.Mutex
	down     string
	is       docker.Engine // as it said when it was reached last
	noGPUs   string        // why it gives none, as it turned out; "" = that is not known
	runs     map[task.Ref]*run
	out      []task.Change // for Watch to report
	changed  bool          // something else than reports is new: the engine is to look
	spawn    func(*run)    // nil before Watch, and after it
	lost     time.Time     // since when the engine is away; zero = it is not, or never was there
	outages  []outage      // the latest, oldest first
	strays   map[string]stray
	poke     chan struct{} // of capacity 1: Watch has something to do
	hurry    chan struct{} // of capacity 1: somebody waits for the container engine
	reported bool          // that the engine is away was logged
}

// New makes a backend. It calls the engine when Watch runs.
func New(opts Options) (*Backend, error) {
	if err := opts.fill(); err != nil {
		return nil, err
	}
	id, err := host.This()
	if err != nil {
		return nil, fmt.Errorf("container backend: %w", err)
	}
	b := &Backend{
		opts: opts, layout: taskfiles.Layout{Dir: opts.TasksDir}, engine: opts.Engine, node: id.Name, procs: kernel{},
		down: connecting, runs: map[task.Ref]*run{}, strays: map[string]stray{}, starts: make(chan struct{}, mostStarting),
		poke: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
	}
	b.images = newImages(b)
	b.pulled = &pulled{path: filepath.Join(opts.TasksDir, pulledFile)}
	return b, nil
}

// Name returns the name of this backend.
func (b *Backend) Name() string { return Name }

// Down says why nothing can be handed over now; "" = it can.
func (b *Backend) Down() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.down
}

// Absent says that there was no engine when it was looked for.
func (b *Backend) Absent() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.down != "" && b.reported
}

// Launch takes attempts over. Each has a run, which does the rest.
func (b *Backend) Launch(_ context.Context, tasks []task.Task) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range tasks {
		if r, ok := b.runs[t.Ref()]; ok {
			r.give(t)
			b.out = append(b.out, r.history...)
			continue
		}
		b.add(newRun(b, t))
	}
	b.ring()
	return nil
}

// add takes a run in, and has it begin if Watch is there. The mutex is held.
func (b *Backend) add(r *run) {
	b.runs[r.ref] = r
	if b.spawn != nil {
		b.spawn(r)
	}
}

// Stop has the run of an attempt end it. An attempt that was never handed over has
// one now, which finds that there is nothing to end.
func (b *Backend) Stop(_ context.Context, t task.Task) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.runs[t.Ref()]
	if !ok {
		r = newRun(b, t)
		r.stop = true
		b.add(r)
		return nil
	}
	r.stop = true
	b.out = append(b.out, r.ends()...)
	r.rouse()
	b.ring()
	return nil
}

// Forget removes the containers whose ends are stored, with what was kept about them.
func (b *Backend) Forget(ctx context.Context, refs []task.Ref) error {
	var errs []error
	for _, ref := range refs {
		b.mu.Lock()
		r, ok := b.runs[ref]
		b.mu.Unlock()
		if ok && !r.over() {
			continue // the end that is stored was told by somebody before us; it will be told again
		}
		if err := b.discard(ctx, ref); err != nil {
			errs = append(errs, err)
			continue
		}
		b.mu.Lock()
		delete(b.runs, ref)
		b.mu.Unlock()
	}
	return errors.Join(errs...)
}

// discard removes the container of an attempt and its folder.
func (b *Backend) discard(ctx context.Context, ref task.Ref) error {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	name := nameOf(b.opts.QueueID, ref)
	err := b.engine.Remove(ctx, name)
	if err != nil && !errors.Is(err, docker.ErrNoContainer) && !errors.Is(err, docker.ErrConflict) {
		return err
	}
	b.removeFiles(ref)
	return nil
}

// Watch reports until ctx ends.
func (b *Backend) Watch(ctx context.Context, active []task.Task, sink func([]task.Change)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	b.mu.Lock()
	b.spawn = func(r *run) { wg.Go(func() { r.loop(ctx) }) }
	for _, t := range active {
		// What was only placed is handed over again, or stopped, by the engine.
		if _, known := b.runs[t.Ref()]; !known && t.State() != task.Assigned {
			r := newRun(b, t)
			r.begun = true
			b.runs[r.ref] = r
		}
	}
	for _, r := range b.runs {
		b.spawn(r)
	}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.spawn = nil
		b.mu.Unlock()
	}()

	wg.Go(func() { b.images.run(ctx) })
	wg.Go(func() {
		b.engine.Follow(ctx, []string{labelQueue + "=" + b.opts.QueueID}, docker.Handler{Up: b.up, Event: b.event, Down: b.away, Retry: b.hurry})
	})
	wg.Go(func() { b.sweep(ctx) })
	wg.Go(func() { b.boundLogs(ctx) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.poke:
		}
		if changes, news := b.take(); news {
			sink(changes)
		}
	}
}

// take returns what is to be reported; news is true as well when nothing is, and the
// engine is to look at what we are able to do.
func (b *Backend) take() (changes []task.Change, news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changes, news = b.out, b.changed || len(b.out) > 0
	b.out, b.changed = nil, false
	return changes, news
}

// ring has Watch look.
func (b *Backend) ring() {
	select {
	case b.poke <- struct{}{}:
	default:
	}
}

// turn has the caller of Watch look at what has become possible.
func (b *Backend) turn() {
	b.mu.Lock()
	b.changed = true
	b.mu.Unlock()
	b.ring()
}

// up takes note that the engine answers, and has everything looked at.
func (b *Backend) up(ctx context.Context, is docker.Engine) error {
	there, err := b.engine.List(ctx, labelQueue+"="+b.opts.QueueID)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.is, b.down, b.noGPUs = is, "", ""
	if b.reported {
		b.opts.Logger.Info("the container engine is back", "host", b.engine.Host())
	} else {
		b.opts.Logger.Info("found a container engine", "host", b.engine.Host(), "version", is.Version, "api", is.API, "rootless", is.Rootless)
	}
	b.reported = false
	b.noteOutage()
	b.noteStrays(there)
	for _, r := range b.runs {
		r.rouse()
	}
	b.changed = true
	b.mu.Unlock()
	b.images.retry()
	b.ring()
	return nil
}

// away takes note that the engine does not answer.
func (b *Backend) away(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if text := AwayText(b.engine.Host(), err); text != b.down {
		b.down, b.changed = text, true // what waits has another reason
		b.ring()
	}
	if b.lost.IsZero() && b.is != (docker.Engine{}) {
		b.lost = b.opts.Now()
	}
	if !b.reported {
		b.opts.Logger.Warn("the container engine cannot be used; what runs in containers goes on if it does, and is looked at when the engine answers", "host", b.engine.Host(), "error", err)
	}
	b.reported = true
}

// AwayText says why an engine cannot be used, and what to do.
func AwayText(at string, err error) string {
	switch {
	case errors.Is(err, docker.ErrForbidden):
		return fmt.Sprintf("you may not use the container engine at %s: ask to be put into the group of that socket (usually docker), or run a rootless engine and set DOCKER_HOST", at)
	case errors.Is(err, docker.ErrTooOld):
		return err.Error()
	case errors.Is(err, docker.ErrHangs):
		return fmt.Sprintf("the container engine at %s is there, but does not answer: it hangs or is stopped, or its machine has too much to do; if that lasts, restart it (systemctl restart docker)", at)
	default:
		return fmt.Sprintf("no container engine answers at %s: start it, or install Docker or Podman, or set DOCKER_HOST (dspy-agent doctor says more)", at)
	}
}

// event wakes the run whose container something happened to.
func (b *Backend) event(e docker.Event) {
	ref, ok := refOf(b.opts.QueueID, e.Labels)
	if !ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.runs[ref]; r != nil {
		r.heard(e)
	}
}

// engineNow is the engine as it said when it was reached last.
func (b *Backend) engineNow() docker.Engine {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.is
}

// Want says which images waiting tasks need. Those that are not there are fetched.
func (b *Backend) Want(images []string) {
	b.images.want(slices.Clone(images))
	if len(images) > 0 && b.Down() != "" {
		select {
		case b.hurry <- struct{}{}:
		default:
		}
	}
}
