package gpupool

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Eyes look at the devices.
type Eyes interface {
	// Latest returns the last look, and when it came; nil = there was none.
	Latest() (s *gpu.Snapshot, received time.Time)
	// Changed is closed when there is a newer look, or an event.
	Changed() <-chan struct{}
	// Events returns what the driver told since the last call.
	Events() []gpu.Event
	// Down says why nothing may be placed by what was seen; "" = it may.
	Down() string
	// Ask has them look soon.
	Ask()
}

// Options are what a Pool is made of. All are needed but those that say otherwise.
type Options struct {
	// Off says why this machine's GPUs are not given out at all; "" = they are. Then
	// Eyes is needed.
	Off     string
	Eyes    Eyes
	File    string // of the book
	LockDir string // shared by the schedulers of all users
	// MakeLockDir makes it as needed. Nil = it is there.
	MakeLockDir func(dir string) error
	QueueID     string
	UID         int
	Boot        string // of the machine
	Sharers     int    // how many may share one; 0 = gpu.DefaultSharers
	ByUUID      bool   // programs are always told UUIDs
	// Whose says which of the tasks, that all hold devices, a process belongs to. May
	// be nil.
	Whose func(pid int, among []task.Task) (task.Seq, bool)
	// Container says which container a task runs in, by its id; "" = in none. May be nil.
	Container func(t task.Task) string
	// Process is what keeps a note beside a lock alive: the task's own process; PID is 0
	// while none is known. Starter is whoever starts it, for as long. Both may be nil.
	Process func(t task.Task) host.Process
	Starter func() host.Process
	// Failed is told once of each device that becomes unhealthy, or is gone; it is told again
	// where it gives an error. May be nil.
	Failed func(id gpu.DeviceID, h gpu.Health) error
	Log    *slog.Logger
	Now    func() time.Time // nil = time.Now
}

// Pool is the GPUs of this machine.
type Pool struct {
	o       Options
	changed chan struct{} // of capacity 1
	nudge   chan struct{} // of capacity 1: Run looks after things
	first   chan struct{} // closed with the first look

	mu       sync.Mutex
	tasks    []task.Task // that hold devices
	leases   []gpu.Lease // of these
	book     gpu.Book
	seen     *gpu.Snapshot // that the book has in it
	received time.Time
	claims   map[gpu.DeviceID]*claim
	others   map[gpu.DeviceID]other // that schedulers of others have
	owners   map[gpu.ProcessKey]gpu.Owner
	inside   map[string]gpu.Owner // whose containers are, by id
	usage    map[task.Ref]*usage
	notes    map[task.Seq]note
	told     map[gpu.DeviceID]time.Time // of which failures it was told, by their beginning
	began    time.Time
	asked    time.Time // when the last look was asked for

	file    sync.Mutex // one writes the file at a time; before mu, where both are taken
	saved   []byte     // what the file has; guarded by file
	savedAt time.Time
}

// New reads what is remembered.
func New(o Options) (*Pool, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sharers <= 0 {
		o.Sharers = gpu.DefaultSharers
	}
	p := &Pool{
		o: o, changed: make(chan struct{}, 1), nudge: make(chan struct{}, 1), first: make(chan struct{}), began: time.Now(),
		claims: map[gpu.DeviceID]*claim{}, others: map[gpu.DeviceID]other{}, owners: map[gpu.ProcessKey]gpu.Owner{}, inside: map[string]gpu.Owner{},
		usage: map[task.Ref]*usage{}, notes: map[task.Seq]note{}, told: map[gpu.DeviceID]time.Time{},
	}
	if o.Off != "" {
		close(p.first)
		return p, nil
	}
	if err := p.load(); err != nil {
		return nil, err
	}
	p.recall()
	return p, nil
}

const (
	// coolEvery is between two looks while memory is about to be free: an H100 has it
	// after a tenth of a second.
	coolEvery = 200 * time.Millisecond
	// tick is how often others' locks are looked at, and what is late.
	tick = 2 * time.Second
)

// Run keeps the book until ctx ends.
func (p *Pool) Run(ctx context.Context) error {
	if p.o.Off != "" {
		<-ctx.Done()
		return nil
	}
	defer p.close()
	every := time.NewTimer(0)
	defer every.Stop()
	for {
		next := p.o.Eyes.Changed()
		p.update()
		p.tell()
		every.Reset(p.pause())
		select {
		case <-ctx.Done():
			return nil
		case <-next:
		case <-p.nudge:
		case <-every.C:
			p.askIfCooling()
		}
	}
}

func (p *Pool) pause() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cooling() {
		return coolEvery
	}
	return tick
}

// cooling says whether memory of a task that has ended is waited for.
func (p *Pool) cooling() bool {
	for _, r := range p.book.Devices {
		if r.Cooling != nil && p.o.Now().Sub(r.Cooling.Since) < gpu.Coolest {
			return true
		}
	}
	return false
}

func (p *Pool) askIfCooling() {
	p.mu.Lock()
	cooling := p.cooling()
	p.mu.Unlock()
	if cooling {
		p.o.Eyes.Ask()
	}
}

// update takes in what is new: a look, events, the locks of others. What takes time
// is done before the lock is taken, which the engine takes too.
func (p *Pool) update() {
	s, received := p.o.Eyes.Latest()
	events := p.o.Eyes.Events()
	p.mu.Lock()
	tasks := p.tasks
	newer := s != nil && s != p.seen
	p.mu.Unlock()
	var owners map[gpu.ProcessKey]gpu.Owner
	if newer {
		owners = p.attribute(s, tasks)
	}
	p.take(s, received, events, newer, owners, p.lookAtLocks())
	p.save(false)
	if newer || len(events) > 0 {
		p.wake()
	}
}

// take takes in what is new.
func (p *Pool) take(s *gpu.Snapshot, received time.Time, events []gpu.Event, newer bool, owners map[gpu.ProcessKey]gpu.Owner, others map[gpu.DeviceID]other) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.others = others
	now := p.o.Now()
	o := gpu.Observation{Now: now, Boot: p.o.Boot, Events: events, Leases: p.leases}
	if newer {
		p.owners = owners
		o.Snapshot = s
	}
	o.Attribution = p.attribution()
	if newer || len(events) > 0 {
		p.book = p.book.After(o)
	}
	if newer {
		p.sample(s, now)
		if p.seen == nil {
			close(p.first)
		}
		p.seen, p.received = s, received
	}
	p.takeNotes(events, now)
	p.writeNotes()
	p.release()
}

// attribute finds out whose the processes of a snapshot are. What was found out
// before stays so: a process does not change hands.
func (p *Pool) attribute(s *gpu.Snapshot, tasks []task.Task) map[gpu.ProcessKey]gpu.Owner {
	p.mu.Lock()
	before := p.owners
	p.mu.Unlock()
	out := map[gpu.ProcessKey]gpu.Owner{}
	for i := range s.Devices {
		for _, proc := range s.Devices[i].Sample.Processes {
			key := gpu.ProcessKey{PID: proc.PID, StartTicks: proc.StartTicks}
			if o, ok := before[key]; ok {
				out[key] = o
				continue
			}
			if proc.Gone || proc.UID != p.o.UID || proc.StartTicks == 0 || p.o.Whose == nil || len(tasks) == 0 {
				continue
			}
			seq, ok := p.o.Whose(proc.PID, tasks)
			if i := slices.IndexFunc(tasks, func(t task.Task) bool { return t.Seq == seq }); ok && i >= 0 {
				out[key] = gpu.Owner{Kind: gpu.OwnerTask, Name: tasks[i].Spec.ID}
			}
		}
	}
	return out
}

// attribution is all that is known of whose processes are whose, with the lock held.
func (p *Pool) attribution() gpu.Attribution {
	return gpu.Attribution{Processes: p.owners, Containers: p.inside}
}

// noteContainers takes note of the containers of those who hold devices. One whose task
// has ended is remembered while its devices cool: what is left of it is no stranger's.
func (p *Pool) noteContainers() {
	if p.o.Container == nil {
		return
	}
	cooling := map[string]bool{}
	for _, r := range p.book.Devices {
		if r.Cooling != nil {
			cooling[r.Cooling.Task] = true
		}
	}
	for id, o := range p.inside {
		if !cooling[o.Name] {
			delete(p.inside, id)
		}
	}
	for _, t := range p.tasks {
		if id := p.o.Container(t); id != "" {
			p.inside[id] = gpu.Owner{Kind: gpu.OwnerTask, Name: t.Spec.ID}
		}
	}
}

// Changed is signalled when what can be placed may have changed.
func (p *Pool) Changed() <-chan struct{} { return p.changed }

func (p *Pool) wake() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *Pool) stir() {
	select {
	case p.nudge <- struct{}{}:
	default:
	}
}
