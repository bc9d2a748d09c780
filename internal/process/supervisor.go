package process

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// SupervisorOptions are what a supervisor needs to know. It reads no
// configuration: what differs between queues comes with each connection.
type SupervisorOptions struct {
	RuntimeDir string        // where the socket is; ours alone
	Logger     *slog.Logger  // required
	Idle       time.Duration // leave after so long with nothing to do; 0 = DefaultIdle
	// NoCgroups does without cgroups where there could be some.
	NoCgroups bool
	// Ready is called once, when clients can connect.
	Ready func()
}

// DefaultIdle is how long a supervisor with nothing to do waits for more.
const DefaultIdle = 5 * time.Minute

// ErrSupervisorRuns is returned by RunSupervisor when the runtime directory has
// a supervisor already. It is what the loser of a race of two starters sees.
var ErrSupervisorRuns = errors.New("a supervisor runs already")

const (
	socketName = "supervisor.sock"
	lockName   = "supervisor.lock"
)

// supervisor is the state of the long-lived process. mu guards all that is not
// said to be otherwise; journals are written under it, so that what is known
// and what is recorded never differ.
type supervisor struct {
	log  *slog.Logger
	id   string
	host string
	boot string
	opts SupervisorOptions

	null       *os.File // stdin of tasks
	leaveFD    int      // an eventfd that becomes readable when we leave
	left       <-chan struct{}
	orphanage  chan chan bool // see tendOrphans
	childrenOf *os.File       // see childrenFile; nil = the kernel has none

	mu      sync.Mutex
	queues  map[string]*queue
	ready   []*attempt // claimed, for the next runner
	forking int        // attempts between claim and process
	idle    int        // runners that wait for work
	clients int
	idleAt  bootTime // since when there is nothing to do; 0 = there is
	// farewell is set when the last client left on purpose: no need to wait for it.
	farewell bool
	keepAt   bootTime // when the timekeeper looks next
	leaving  bool

	work      sync.Cond
	cgroups   *cgroups // nil = not delegated
	oom       *oomCounter
	keeper    waker // wakes the timekeeper
	ender     waker // wakes the ender
	followers *follower
	wg        sync.WaitGroup
}

// RunSupervisor is the supervisor: it serves until ctx ends, or until it has
// had nothing to do for a while. It touches no task when it returns, and runs
// alone in its process: it reaps every child, whoever started it.
func RunSupervisor(ctx context.Context, opts SupervisorOptions) error {
	lock, err := lockFile(filepath.Join(opts.RuntimeDir, lockName))
	if errors.Is(err, errJournalHeld) {
		return fmt.Errorf("%w in %s", ErrSupervisorRuns, opts.RuntimeDir)
	}
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	defer lock.Close() //nolint:errcheck // a lock has nothing to lose
	s, err := newSupervisor(opts)
	if err != nil {
		return err
	}
	path := filepath.Join(opts.RuntimeDir, socketName)
	l, err := runtimedir.Listen(path, func() (net.Listener, error) { return listen(path) })
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	s.log.Info("supervisor started", "supervisor", s.id, "pid", os.Getpid(), "cgroup", s.cgroups != nil)
	if opts.Ready != nil {
		opts.Ready()
	}
	s.serve(ctx, l)
	return nil
}

func newSupervisor(opts SupervisorOptions) (*supervisor, error) {
	boot, err := bootID()
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("supervisor: host name: %w", err)
	}
	if opts.Idle <= 0 {
		opts.Idle = DefaultIdle
	}
	// Orphans of tasks come to us and not to init, so that none of them is lost.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		opts.Logger.Warn("cannot become a subreaper: processes that leave their task may be found late", "error", err)
	}
	s := &supervisor{
		log: opts.Logger, id: randomID(), host: host, boot: boot, opts: opts,
		queues: map[string]*queue{}, orphanage: make(chan chan bool), childrenOf: childrenFile(),
		keeper: newWaker(), ender: newWaker(),
	}
	s.work.L = &s.mu
	if s.null, err = os.Open(os.DevNull); err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	if s.leaveFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	if !opts.NoCgroups {
		s.cgroups = openCgroups(opts.RuntimeDir, opts.Logger)
	}
	s.oom = openOOMCounter()
	s.followers = newFollower(s)
	return s, nil
}

func randomID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// serve runs every goroutine of the supervisor and returns when all have
// ended. The caller's has to be on the main thread (see tendOrphans).
func (s *supervisor) serve(ctx context.Context, l net.Listener) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.left = ctx.Done()
	// A runner in vfork(2) keeps its P while the child is in exec(2). That must
	// not keep others from running meanwhile.
	runtime.GOMAXPROCS(runtime.NumCPU() + maxForking)
	s.wg.Go(func() { s.accept(ctx, l) })
	s.wg.Go(func() { s.keepTime(ctx, cancel) })
	s.wg.Go(func() { s.endLoop(ctx) })
	s.wg.Go(func() { s.followers.run(ctx) })
	s.tendOrphans(ctx)
	_ = l.Close() // it also removes the socket
	s.leave()
	s.wg.Wait()
	s.closeAll()
}

// leave tells the runners to go, those that wait for a task included.
func (s *supervisor) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
	s.work.Broadcast()
	if _, err := unix.Write(s.leaveFD, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		s.log.Error("cannot wake the runners", "error", err)
	}
}

func (s *supervisor) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	running := 0
	for _, q := range s.queues {
		running += len(q.attempts)
		if err := q.journal.close(); err != nil {
			s.log.Error("close journal", "queue", q.id, "error", err)
		}
	}
	s.cgroups.close()
	_ = s.null.Close() // only read from
	_ = unix.Close(s.leaveFD)
	if s.childrenOf != nil {
		_ = s.childrenOf.Close() // only read from
	}
	s.log.Info("supervisor leaves", "supervisor", s.id, "attempts", running)
}

// now is the wall clock, for what people read.
func now() task.Instant { return task.At(time.Now()) }

// waker is a wake-up call that is not lost when it comes early, and counts once
// when it comes often.
type waker chan struct{}

func newWaker() waker { return make(waker, 1) }

func (w waker) wake() {
	select {
	case w <- struct{}{}:
	default:
	}
}
