package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Registration is a backend with what planning has to know about it.
type Registration struct {
	Backend Backend
	Local   bool // it uses this machine's capacity
	Image   bool // it runs container images
	NoImage bool // it runs tasks without an image
	Most    int  // how many tasks it may have at a time; 0 = any number
}

// Options are the parts and settings of an Engine. All are required but those that say
// otherwise.
type Options struct {
	Store    Store
	Backends []Registration
	// Classes by name, aliases included under their own names. Tasks of others wait.
	Classes  map[string]Class
	Capacity scheduler.Capacity
	// GPUs are this machine's; nil = none are given out.
	GPUs Inventory
	// Wake is signalled by the store when something became ready or was asked.
	Wake   <-chan struct{}
	Logger *slog.Logger
	// Meter is told how long things took; nil = nobody is.
	Meter Meter
	// Now is the clock; nil = time.Now.
	Now func() time.Time
	// Quiet is told, after each round that leaves nothing to follow and nothing that
	// could start, when something is due by itself (0 = nothing is). It runs in the
	// loop and must not wait; nil = nobody is told.
	Quiet func(next task.Instant)
}

// Class is what the engine knows about a class of tasks.
type Class struct {
	Name     string
	Parallel int // 0 = bounded by the capacity
	Short    bool
	// Limit is how long its tasks run at most, as a rule; 0 = nothing is known. Who runs
	// longer is told of, and left alone.
	Limit    time.Duration
	Backends []string
	// Patience is how long a task waits for room on this machine before a backend that is
	// elsewhere may have it.
	Patience time.Duration
	// Of is the class that this is another name of; "" = it is one by itself. It is
	// paused with that one.
	Of string
	// Shut says why none of its tasks is placed while this engine runs, in a sentence
	// for people; "" = they are. What is active already is followed all the same.
	Shut string
}

// Engine moves tasks. New makes it, Run drives it; the other methods may be
// called from any goroutine while Run runs.
type Engine struct {
	store    Store
	backends map[string]Registration
	order    []string // names of the backends, as registered
	classes  map[string]Class
	capacity scheduler.Capacity
	wake     <-chan struct{}
	log      *slog.Logger
	now      func() time.Time
	meter    Meter                   // may be nil
	quiet    func(next task.Instant) // may be nil
	gpus     Inventory               // may be nil

	inbox *inbox     // from backends
	asks  chan input // from people

	// Owned by the loop; guarded for those who explain.
	mu     sync.Mutex
	active map[task.Seq]task.Task
	tally  tally
	pace   map[string]*pace
	recent recents
	began  time.Time

	// Owned by the loop alone.
	due      task.Instant // when Advance has something to do
	todo     todo
	setbacks setbacks
	overdue  overdues
	slow     task.Instant // when the next attempt comes to its class's limit; 0 = none does
	last     time.Time    // of the last commit
	demanded uint64       // the version of the list of images that backends know

	late      []late       // reports that wait for a look at the GPUs
	gpusDirty bool         // the inventory is to be told who holds what
	impatient task.Instant // when a waiting task may go elsewhere; 0 = none does
	gpusSoon  bool         // a task waits for a GPU, and what is in its way may be over soon

	unconfirmed bool // it is not known whether the queue still is ours
	stuck       stuck

	ended chan struct{} // closed when Run returns
}

// errEnded is the answer to what is asked of an engine that has ended.
var errEnded = task.Errorf(task.CodeUnavailable, "the daemon is stopping; running tasks go on: ask again when it is back")

// input is what a person asks for: changes of tasks, or something about a class.
// The answer comes when it is on disk.
type input struct {
	changes []task.Change
	class   classStep
	answer  chan answer // of capacity 1
}

type answer struct {
	applied []task.Applied
	class   classAnswer
	err     error
}

// New checks the options and makes an engine. It does nothing until Run.
func New(o Options) (*Engine, error) {
	switch {
	case o.Store == nil || o.Logger == nil || o.Wake == nil:
		return nil, errors.New("engine: Store, Logger and Wake are required")
	case len(o.Backends) == 0:
		return nil, errors.New("engine: at least one backend is required")
	case o.Capacity.CPUMilli <= 0:
		return nil, errors.New("engine: the capacity has no CPU")
	}
	e := &Engine{
		store: o.Store, classes: o.Classes, capacity: o.Capacity, wake: o.Wake, log: o.Logger, now: o.Now, meter: o.Meter, quiet: o.Quiet, gpus: o.GPUs, gpusDirty: true,
		backends: make(map[string]Registration, len(o.Backends)),
		inbox:    newInbox(),
		asks:     make(chan input),
		active:   make(map[task.Seq]task.Task),
		tally:    newTally(),
		pace:     make(map[string]*pace),
		recent:   make(recents),
		todo:     newTodo(),
		setbacks: make(setbacks),
		overdue:  make(overdues),
		ended:    make(chan struct{}),
	}
	if e.now == nil {
		e.now = time.Now
	}
	e.began = e.now()
	for _, r := range o.Backends {
		n := r.Backend.Name()
		if _, twice := e.backends[n]; twice {
			return nil, fmt.Errorf("engine: backend %s is registered twice", n)
		}
		e.backends[n] = r
		e.order = append(e.order, n)
	}
	return e, nil
}

// Run recovers and then moves tasks until ctx ends or the store can no longer be
// trusted. It returns nil after ctx ended. No workload is stopped by its return. It may
// be called once.
func (e *Engine) Run(ctx context.Context) error {
	defer close(e.ended)
	byBackend, err := e.recover()
	if err != nil {
		return fmt.Errorf("read the active tasks: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range e.order {
		g.Go(func() error { return e.watch(ctx, e.backends[n].Backend, byBackend[n]) })
	}
	g.Go(func() error { return e.loop(ctx) })
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// recover reads what was active when the last owner of the queue ended. What was
// only Assigned is handed over again; what is Stopping, or has a wish to be
// cancelled, is stopped again. Both are idempotent at the backend.
func (e *Engine) recover() (map[string][]task.Task, error) {
	active, err := e.store.Active()
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	byBackend := make(map[string][]task.Task)
	for _, t := range active {
		e.active[t.Seq] = t
		e.tally.add(t, e.backends[t.Status().Backend].Local, +1)
		name := t.Status().Backend
		byBackend[name] = append(byBackend[name], t)
		if _, ok := e.backends[name]; !ok {
			e.log.Warn("task runs on a backend that is not configured; it is left alone", keyTask, t.Spec.ID, keyBackend, name)
			continue
		}
		switch {
		case t.State() == task.Stopping:
			e.todo.stop[t.Seq] = stopping{}
		case t.Status().Cancel != nil:
			e.todo.cancel = append(e.todo.cancel, t.Seq)
		case t.State() == task.Assigned:
			e.todo.launch = append(e.todo.launch, t.Seq)
		}
	}
	e.recoverBegun(active)
	e.tellGPUs()
	if len(active) > 0 {
		e.log.Info("found active tasks of an earlier run", "tasks", len(active))
	}
	for class, p := range e.store.Paused() {
		e.log.Info("class is paused", keyClass, class, keySince, p.At.Time(), keyBy, p.By, keyReason, p.Reason)
	}
	return byBackend, nil
}

// watch runs a backend's Watch, whose reports the loop takes from the inbox.
func (e *Engine) watch(ctx context.Context, b Backend, active []task.Task) error {
	sink := func(changes []task.Change) { e.inbox.put(ctx, changes) }
	if err := b.Watch(ctx, active, sink); err != nil && ctx.Err() == nil {
		return fmt.Errorf("backend %s: %w", b.Name(), err)
	}
	return nil
}

// submit passes changes to the loop and waits until they are on disk.
func (e *Engine) submit(ctx context.Context, changes []task.Change) ([]task.Applied, error) {
	a, err := e.ask(ctx, input{changes: changes})
	return a.applied, err
}

// ask passes something to the loop and waits for its answer. When the engine ends
// first, the answer is errEnded.
func (e *Engine) ask(ctx context.Context, in input) (answer, error) {
	in.answer = make(chan answer, 1)
	select {
	case e.asks <- in:
	case <-e.ended:
		return answer{}, errEnded
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
	select {
	case a := <-in.answer: // the loop answers whatever it has taken
		if errors.Is(a.err, context.Canceled) && ctx.Err() == nil { // it was the engine's that ended
			a.err = errEnded
		}
		return a, a.err
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

// The fixed keys of the log.
const (
	keyTask    = "task"
	keySeq     = "seq"
	keyAttempt = "attempt"
	keyState   = "state"
	keyFrom    = "from"
	keyEvent   = "event"
	keyBackend = "backend"
	keyReason  = "reason"
	keyClass   = "class"
	keyBy      = "by"
	keySince   = "since"
)
