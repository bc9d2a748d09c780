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
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
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
// said to be otherwise. No file of a queue is touched under it: one file system
// that does not answer must not hold up the tasks on others.
type supervisor struct {
	log   *slog.Logger
	id    string
	where host.Identity
	opts  SupervisorOptions

	null       *os.File // stdin of tasks
	leaveFD    int      // an eventfd that becomes readable when we leave
	needFD     int      // a semaphore: so many runners that wait for a process are needed
	left       <-chan struct{}
	orphanage  chan chan bool // see tendOrphans
	childrenOf *os.File       // see childrenFile; nil = the kernel has none
	peak       atomic.Int64   // of our own memory, in KiB, as it was last seen

	mu      sync.Mutex
	queues  map[string]*queue
	opening map[string]bool // queues whose journals are being read
	ready   []*attempt      // claimed, for the next runner
	active  int             // attempts that are claimed or run
	stuck   int             // attempts that take long to become a process
	crew    map[*runner]struct{}
	hung    int // runners that wait for a file system that does not answer
	idle    int // runners that wait for work
	waiting int // runners that wait for a process
	called  int // of those, how many needFD calls
	clients int
	idleAt  bootTime // since when there is nothing to do; 0 = there is
	// farewell is set when the last client left on purpose: no need to wait for it.
	farewell bool
	keepAt   bootTime // when the timekeeper looks next
	leaving  bool

	maxActive int
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
	lock, err := host.Lock(filepath.Join(opts.RuntimeDir, lockName))
	if errors.Is(err, host.ErrLocked) {
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
		s.abandon()
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
	where, err := host.This()
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	if opts.Idle <= 0 {
		opts.Idle = DefaultIdle
	}
	// Orphans of tasks come to us and not to init, so that none of them is lost.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		opts.Logger.Warn("cannot become a subreaper: processes that leave their task may be found late", "error", err)
	}
	s := &supervisor{
		log: opts.Logger, id: randomID(), where: where, opts: opts,
		queues: map[string]*queue{}, opening: map[string]bool{}, crew: map[*runner]struct{}{}, maxActive: maxActive(), orphanage: make(chan chan bool),
		keeper: newWaker(), ender: newWaker(),
	}
	s.work.L = &s.mu
	if err := s.openFiles(); err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	if !opts.NoCgroups {
		s.cgroups = openCgroups(opts.RuntimeDir, opts.Logger)
	}
	s.oom = openOOMCounter()
	s.followers = newFollower(s)
	return s, nil
}

// eventfd is a variable so that tests can be without.
var eventfd = unix.Eventfd

// openFiles opens what a supervisor keeps open: all, or after an error nothing.
func (s *supervisor) openFiles() (err error) {
	s.leaveFD, s.needFD = -1, -1
	defer func() {
		if err != nil {
			s.closeFiles()
		}
	}()
	if s.null, err = os.Open(os.DevNull); err != nil {
		return err
	}
	if s.leaveFD, err = eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return err
	}
	if s.needFD, err = eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK|unix.EFD_SEMAPHORE); err != nil {
		return err
	}
	s.childrenOf = childrenFile()
	return nil
}

// closeFiles closes what openFiles opened, of which nothing was written to.
func (s *supervisor) closeFiles() {
	_ = s.null.Close()
	closeFD(&s.leaveFD)
	closeFD(&s.needFD)
	if s.childrenOf != nil {
		_ = s.childrenOf.Close()
	}
}

// abandon gives back what a supervisor has that never served.
func (s *supervisor) abandon() {
	s.followers.close()
	s.cgroups.close()
	s.closeFiles()
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
	runtime.GOMAXPROCS(runtime.NumCPU() + runnersKept)
	makeThreads(spareThreads)
	s.wg.Go(func() { s.accept(ctx, l) })
	s.wg.Go(func() { s.keepTime(ctx, cancel) })
	s.wg.Go(func() { s.endLoop(ctx) })
	s.wg.Go(func() { s.followers.run(ctx) })
	s.wg.Go(func() { s.sweepCgroups(ctx) })
	s.tendOrphans(ctx)
	_ = l.Close() // it also removes the socket
	s.leave()
	if s.ownEnd(leavePatience) {
		return
	}
	// Our locks end with us, and that others can go on is worth more.
	s.log.Warn("supervisor leaves although some of it waits for a file system that does not answer", "supervisor", s.id)
}

// leavePatience bounds the end of a supervisor.
const leavePatience = 10 * time.Second

// ownEnd waits for every goroutine and puts everything away, but not for ever. It
// says whether all was done.
func (s *supervisor) ownEnd(patience time.Duration) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.wg.Wait()
		s.closeAll()
	}()
	select {
	case <-done:
		return true
	case <-time.After(patience):
		return false
	}
}

// leave tells the runners to go, those that wait for a task included.
func (s *supervisor) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
	s.work.Broadcast()
	signalFD(s.leaveFD, 1)
}

func (s *supervisor) closeAll() {
	var wg sync.WaitGroup
	for _, q := range s.queues { // nobody else is left, and none waits for another's file system
		wg.Go(func() {
			for _, d := range s.departures(q) {
				s.depart(d)
			}
			s.flush(q, false)
			s.mu.Lock()
			whole := !q.journal.pending() && !q.writing
			s.mu.Unlock()
			if whole {
				s.sendOn(q)
				s.show(q, true)
			}
		})
	}
	wg.Wait()
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
	s.closeFiles()
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
