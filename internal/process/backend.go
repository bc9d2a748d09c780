package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// Name is the name of this backend in task.Status.Backend.
const Name = "process"

// connecting is why nothing can be handed over before the first connection.
const connecting = "connecting to the process supervisor"

// Backend runs attempts as processes of this host. The processes belong to the
// supervisor, so a Backend can go away and come back at any time.
type Backend struct {
	opts   Options
	layout taskfiles.Layout
	spool  string   // of this boot
	former []string // of earlier boots
	id     host.Identity

	mu      sync.Mutex
	session *session // nil while there is no connection, or no answer
	down    string
	silent  silence
	// given are attempts that were handed over and are not known to have begun:
	// should the supervisor be killed, they are handed over again.
	given map[task.Ref]*supervisorpb.Start
	envs  map[task.Ref][]string
	// bare are attempts that were handed over from here without a payload.
	bare   map[task.Ref]struct{}
	stops  map[task.Ref]struct{} // asked to stop, end not seen
	told   map[task.Ref]told
	procs  map[task.Ref]known     // what has a process, as far as is known
	active map[task.Ref]task.Task // of which Watch was told, and the supervisor was not heard
	limits map[string]uint32
	unread *unread       // ends that cannot be told yet
	echoes []task.Change // ends of built-in tasks, for Watch to report
	wake   waker
	// late are starts that came too late to be taken.
	late     map[task.Ref]struct{}
	lateness waker

	shared    bool // other hosts may see the spool
	distant   map[task.Ref]*distantAttempt
	inherited map[task.Ref]*inheritance
	heirs     map[task.Ref]bool   // those that were inherited, until their ends are stored
	remote    map[task.Ref]string // the spool in which the end of an attempt is that ran elsewhere
	learned   bool                // Watch was told what is active
	early     []task.Task         // handed over before that
	outlook   waker               // has the lookout look at once

	trace  sync.Mutex
	traced bool          // under trace; see leaveTrace
	first  chan struct{} // closed with the first session
	once   sync.Once
}

// New makes a backend. It connects when Watch runs.
func New(opts Options) (*Backend, error) {
	if err := opts.fill(); err != nil {
		return nil, err
	}
	id, err := host.This()
	if err != nil {
		return nil, fmt.Errorf("process backend: %w", err)
	}
	present, former := spools(opts.SpoolDir, id)
	shared := onServer(opts.SpoolDir)
	former = slices.DeleteFunc(former, func(dir string) bool { return ofTwin(dir, id) })
	return &Backend{
		opts: opts, layout: taskfiles.Layout{Dir: opts.TasksDir}, id: id, spool: present, former: former,
		down:  connecting,
		given: map[task.Ref]*supervisorpb.Start{}, envs: map[task.Ref][]string{}, bare: map[task.Ref]struct{}{},
		stops: map[task.Ref]struct{}{}, told: map[task.Ref]told{}, procs: map[task.Ref]known{},
		active: map[task.Ref]task.Task{}, limits: map[string]uint32{},
		late: map[task.Ref]struct{}{}, lateness: newWaker(), shared: shared, outlook: newWaker(),
		distant: map[task.Ref]*distantAttempt{}, inherited: map[task.Ref]*inheritance{}, heirs: map[task.Ref]bool{}, remote: map[task.Ref]string{},
		wake: newWaker(), first: make(chan struct{}), unread: newUnread(),
	}, nil
}

// Name returns the name of this backend.
func (b *Backend) Name() string { return Name }

// Layout says where the files of attempts are.
func (b *Backend) Layout() taskfiles.Layout { return b.layout }

// Down says why nothing can be handed over now; "" = it can.
func (b *Backend) Down() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.downText()
}

// downText is Down for those who hold the mutex.
func (b *Backend) downText() string {
	if !b.silent.since.IsZero() {
		return b.silent.text(time.Now())
	}
	return b.down
}

// connected returns the connection. It does not wait for one: the engine itself
// calls, and comes again.
func (b *Backend) connected() (*session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.session != nil {
		return b.session, nil
	}
	return nil, task.Errorf(task.CodeUnavailable, "%s", cmp.Or(b.downText(), connecting))
}

// setSession changes the connection, or why there is none.
func (b *Backend) setSession(ss *session, down string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.session, b.down, b.silent = ss, down, silence{}
}

// Connected is closed when Watch has reached the supervisor for the first time.
func (b *Backend) Connected() <-chan struct{} { return b.first }

// Stop begins to end an attempt. What cannot be sent now goes over with the next
// connection (see handOver).
func (b *Backend) Stop(_ context.Context, t task.Task) error {
	if b.stopElsewhere(t) {
		return nil
	}
	ss, m := b.noteStop(t)
	if ss == nil {
		return nil
	}
	if err := ss.send(m); err != nil {
		b.opts.Logger.Warn("a stop goes to the process supervisor once more with the next connection", "task", t.Seq, "error", err)
	}
	return nil
}

// noteStop keeps the wish to end an attempt, and returns the message that says
// it with the connection to send it through; nil = there is none now.
func (b *Backend) noteStop(t task.Task) (*session, *supervisorpb.ToSupervisor) {
	ref := t.Ref()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stops[ref] = struct{}{}
	delete(b.given, ref)
	delete(b.envs, ref)
	if _, ok := b.procs[ref]; !ok {
		b.knowTask(t)
	}
	return b.session, stopMessage([]task.Ref{ref}, b.knownOf([]task.Ref{ref}))
}

func stopMessage(refs []task.Ref, known []*supervisorpb.Known) *supervisorpb.ToSupervisor {
	return &supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Stop{Stop: &supervisorpb.StopBatch{Names: namesOf(refs), Known: known}}}
}

func namesOf(refs []task.Ref) []*supervisorpb.Name {
	out := make([]*supervisorpb.Name, len(refs))
	for i, r := range refs {
		out[i] = nameOf(r)
	}
	return out
}

// Forget drops what was kept about attempts whose ends are stored.
func (b *Backend) Forget(_ context.Context, refs []task.Ref) error {
	ss, err := b.connected()
	if err != nil {
		return err
	}
	b.mu.Lock()
	remote, litter := b.remoteOf(refs), b.litterOf(refs)
	for _, r := range refs {
		delete(b.told, r)
		delete(b.stops, r)
		delete(b.procs, r)
		delete(b.active, r)
		delete(b.given, r)
		delete(b.envs, r)
		delete(b.heirs, r)
		delete(b.bare, r)
	}
	b.mu.Unlock()
	b.removeFiles(litter)
	b.forgetElsewhere(remote)
	return ss.send(forgetMessage(refs))
}

func forgetMessage(refs []task.Ref) *supervisorpb.ToSupervisor {
	return &supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Forget{Forget: &supervisorpb.ForgetBatch{Names: namesOf(refs)}}}
}

// litterOf returns the paths of what only the runs of attempts needed. The log stays.
// What is known not to be there is left out: to remove it costs as much as to look. The
// backend's mutex is held.
func (b *Backend) litterOf(refs []task.Ref) []string {
	paths := make([]string, 0, 2*len(refs))
	for _, r := range refs {
		if _, ok := b.bare[r]; !ok {
			paths = append(paths, b.layout.PayloadPath(r))
		}
		paths = append(paths, b.layout.ResultPath(r))
	}
	return paths
}

func (b *Backend) removeFiles(paths []string) {
	for _, path := range paths {
		if err := unix.Unlink(path); err != nil && !errors.Is(err, unix.ENOENT) {
			b.opts.Logger.Warn("cannot remove a task's file", "path", path, "error", err)
		}
	}
}
