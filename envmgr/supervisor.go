package envmgr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Options are what a Supervisor needs.
type Options struct {
	Engine Engine
	Set    Set
	// Site says whose services these are, in labels. Two Supervisors of one Site that are
	// told different things would make each other's containers anew, for ever: who runs one
	// sees to it that there is no other on the engine, as env-manager does by its socket.
	Site string
	// Network is the name of the network of our containers; it is made where it is missing.
	Network string
	// Project is the docker compose project whose containers are adopted; "" = any.
	Project string
	Policy  Policy
	Logger  *slog.Logger
	// MostStarts is how many containers are made, started and stopped at a time; 0 = no limit.
	MostStarts int
	// Inside: containers' own addresses cannot be reached from here, only published ports.
	Inside bool
	// EngineHost is the machine of the engine, where its published ports are; "" = this one.
	EngineHost string
	// Dial connects probes; nil = as usual.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	Now  func() time.Time // nil = time.Now
}

// mostPulls is how many images are pulled at a time.
const mostPulls = 3

// lookEvery is how often everything is looked at, whatever the engine's events said.
const lookEvery = 30 * time.Second

// ErrOver is what is answered when the Supervisor has ended.
var ErrOver = errors.New("the service supervisor has ended")

// Supervisor cares for the services of a Set. One goroutine, that of Run, owns all that
// is known and decides; what it has to wait for is done by others, which tell it.
type Supervisor struct {
	opts  Options
	calls chan func(*care)
	over  chan struct{}
	slots chan struct{} // nil = no limit
	pulls chan struct{}

	// network is held while the network is looked for and made: engines make two of one
	// name for two that ask at the same moment, and then take it for ambiguous.
	network sync.Mutex

	lists lister

	mu      sync.Mutex
	strays  []string // containers of ours whose service nobody defines any more
	latest  Snapshot
	changed chan struct{}   // closed when there is a later one
	touched map[string]bool // services that the engine told of
	prod    chan struct{}   // has one when something was touched
}

// New makes a Supervisor; Run has it work. Before Up or Down what runs is watched, and
// nothing is started or ended.
func New(o Options) *Supervisor {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Supervisor{
		opts: o, calls: make(chan func(*care)), over: make(chan struct{}), pulls: make(chan struct{}, mostPulls),
		lists: lister{turn: make(chan struct{}, 1)}, changed: make(chan struct{}), touched: map[string]bool{}, prod: make(chan struct{}, 1),
	}
	if o.MostStarts > 0 {
		s.slots = make(chan struct{}, o.MostStarts)
	}
	return s
}

// Run cares for the services until ctx ends, and leaves them as they are then. It is to
// be called once.
func (s *Supervisor) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	c := newCare(ctx, s)
	defer close(s.over)
	defer c.work.Wait()
	defer cancel()
	c.work.Go(func() { s.follow(ctx) })
	return c.run(ctx)
}

// touch notes that a service is to be looked at, and does not wait.
func (s *Supervisor) touch(name string) {
	s.mu.Lock()
	s.touched[name] = true
	s.mu.Unlock()
	select {
	case s.prod <- struct{}{}:
	default:
	}
}

// call has Run's goroutine do something, and returns when it has.
func (s *Supervisor) call(ctx context.Context, do func(*care)) error {
	done := make(chan struct{})
	select {
	case s.calls <- func(c *care) { do(c); close(done) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.over:
		return ErrOver
	}
	select {
	case <-done:
		return nil
	case <-s.over:
		return ErrOver
	}
}

// move has Run's goroutine change what is wanted, and decide by it: who is answered finds
// it in the snapshot, and none from before.
func (s *Supervisor) move(ctx context.Context, do func(*care)) error {
	return s.call(ctx, func(c *care) { do(c); c.decide() })
}

// Up wants services, and all that they need. It does not wait for them.
func (s *Supervisor) Up(ctx context.Context, names ...string) error {
	if err := s.opts.Set.Known(names); err != nil {
		return err
	}
	return s.move(ctx, func(c *care) { c.ask(Up, s.opts.Set.With(names)) })
}

// Down does not want services any more, nor those that need them, which end first. It
// does not wait for the end. It returns all that are to end, in that order.
func (s *Supervisor) Down(ctx context.Context, names ...string) ([]string, error) {
	if err := s.opts.Set.Known(names); err != nil {
		return nil, err
	}
	all := append(append([]string(nil), names...), s.opts.Set.UsersOfAll(names)...)
	return all, s.move(ctx, func(c *care) { c.ask(Down, all) })
}

// Restart has services end and begin anew, whatever became of them.
func (s *Supervisor) Restart(ctx context.Context, names ...string) error {
	if err := s.opts.Set.Known(names); err != nil {
		return err
	}
	return s.move(ctx, func(c *care) { c.again(names) })
}

// Snapshot returns how all services stand. It does not wait.
func (s *Supervisor) Snapshot() Snapshot {
	snap, _ := s.Latest()
	return snap
}

// Latest returns how all services stand, and a channel that is closed when that has
// changed.
func (s *Supervisor) Latest() (Snapshot, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest, s.changed
}

// Wait returns when done says so of a snapshot, with that one.
func (s *Supervisor) Wait(ctx context.Context, done func(Snapshot) bool) (Snapshot, error) {
	for {
		snap, changed := s.Latest()
		if done(snap) {
			return snap, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return snap, fmt.Errorf("wait for services: %w", context.Cause(ctx))
		case <-s.over:
			return snap, ErrOver
		}
	}
}

// publish is called by Run's goroutine.
func (s *Supervisor) publish(snap Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap.Serial = s.latest.Serial + 1
	s.latest = snap
	close(s.changed)
	s.changed = make(chan struct{})
}
