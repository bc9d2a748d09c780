package workers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Name is the name of this backend in task.Status.Backend.
const Name = "worker"

// Backend runs attempts on workers. They go on while there is no Backend.
type Backend struct {
	opts Options
	here host.Identity

	mu       sync.Mutex
	attempts map[task.Ref]*attempt
	line     []*attempt // those that wait for a worker, in order
	members  map[string]*member
	learned  bool // the ledgers were read
	// early and earlyStops came before that.
	early, earlyStops []task.Task
	last              uint64
	out               []task.Change // for Watch to report
	turned            bool          // our room has changed: the engine is to look
	room              scheduler.Room
	news              chan struct{} // closed when something changed that a call may wait for
	poke              chan struct{} // of capacity 1: Watch has something to do
	askedJobs         time.Time     // when Slurm was asked about jobs; of Watch's goroutine
	asking            atomic.Bool   // it is being asked
}

var _ lease.Owner = (*Backend)(nil)

// New makes a backend. It reads what there is when Watch runs.
func New(opts Options) (*Backend, error) {
	if err := opts.fill(); err != nil {
		return nil, err
	}
	id, err := host.This()
	if err != nil {
		return nil, fmt.Errorf("workers: %w", err)
	}
	return &Backend{
		opts: opts, here: id, attempts: map[task.Ref]*attempt{}, members: map[string]*member{},
		news: make(chan struct{}), poke: make(chan struct{}, 1),
	}, nil
}

// Name returns the name of this backend.
func (b *Backend) Name() string { return Name }

// Down says why nothing can be handed over now; "" = it can.
func (b *Backend) Down() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.learned:
		return "reading who its workers are"
	case b.room.Most > 0:
		return ""
	}
	return cmp.Or(b.opts.None(), "no worker is there; start one with: dspy-agent worker, in a Slurm job or by hand")
}

// Absent says that there is no worker.
func (b *Backend) Absent() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.learned && len(b.members) == 0
}

// Room says how many attempts its workers want, and what each of them has.
func (b *Backend) Room() scheduler.Room {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.room
}

// measure counts the room anew. The mutex is held.
func (b *Backend) measure() {
	var r scheduler.Room
	for _, m := range b.members {
		if m.takes() {
			r.Most += m.hold
			r.Hosts = append(r.Hosts, m.host())
		}
	}
	if r.Most > 0 {
		r.Most += r.Most/2 + 1 // what waits here is there at once when a worker has room
	}
	slices.SortFunc(r.Hosts, scheduler.Host.Compare)
	if r.Most != b.room.Most || !slices.Equal(r.Hosts, b.room.Hosts) {
		b.room, b.turned = r, true
		b.ring()
	}
}

// Launch takes attempts over, for workers to ask for.
func (b *Backend) Launch(_ context.Context, tasks []task.Task) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.learned { // who has what of them is about to be read
		b.early = append(b.early, tasks...)
		return nil
	}
	b.launch(tasks)
	return nil
}

// launch is Launch. The mutex is held.
func (b *Backend) launch(tasks []task.Task) {
	for _, t := range tasks {
		a, ok := b.attempts[t.Ref()]
		if !ok {
			a = &attempt{ref: t.Ref(), since: b.opts.Now()}
			b.attempts[t.Ref()] = a
			b.line = append(b.line, a)
		}
		if !a.whole {
			a.task, a.whole = t, true
		}
		b.out = append(b.out, a.history...)
	}
	b.changed()
	b.ring()
}

// Stop begins to end an attempt. Watch does the rest.
func (b *Backend) Stop(_ context.Context, t task.Task) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.learned {
		b.earlyStops = append(b.earlyStops, t)
		return nil
	}
	b.stop(t)
	return nil
}

// stop is Stop. The mutex is held.
func (b *Backend) stop(t task.Task) {
	a, ok := b.attempts[t.Ref()]
	if !ok { // nobody has it, and nobody ever will
		a = &attempt{ref: t.Ref(), task: t}
		b.attempts[t.Ref()] = a
	}
	if a.ended {
		b.out = append(b.out, a.history...)
	}
	a.stop = true
	b.ring()
}

// Forget drops what was kept about attempts whose ends are stored.
func (b *Backend) Forget(_ context.Context, refs []task.Ref) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ref := range refs {
		a, ok := b.attempts[ref]
		if !ok || !a.ended {
			continue // the end that is stored was told by somebody before us; it will be told again
		}
		if a.holder != nil {
			delete(a.holder.has, ref)
		}
		delete(b.attempts, ref)
	}
	b.changed()
	return nil
}

// ring has Watch look.
func (b *Backend) ring() {
	select {
	case b.poke <- struct{}{}:
	default:
	}
}

// changed wakes the calls that wait. The mutex is held.
func (b *Backend) changed() {
	close(b.news)
	b.news = make(chan struct{})
}
