package process

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Name is the name of this backend in task.Status.Backend.
const Name = "process"

// connecting is why nothing can be handed over before the first connection.
const connecting = "connecting to the process supervisor"

// Backend runs attempts as processes of this host. The processes belong to the
// supervisor, so a Backend can go away and come back at any time.
type Backend struct {
	opts   Options
	layout Layout
	spool  string
	host   string
	boot   string

	mu      sync.Mutex
	session *session // nil while there is no connection
	down    string
	// given are attempts that were handed over and are not known to have begun:
	// should the supervisor be killed, they are handed over again.
	given  map[task.Ref]*supervisorpb.Start
	envs   map[task.Ref][]string
	stops  map[task.Ref]struct{} // asked to stop, end not seen
	told   map[task.Ref]told
	active map[task.Ref]task.Task // of which Watch was told, and the supervisor was not heard
	limits map[string]uint32
	echoes []task.Change // ends of built-in tasks, for Watch to report
	wake   waker
	first  chan struct{} // closed with the first session
	once   sync.Once
}

// New makes a backend. It connects when Watch runs.
func New(opts Options) (*Backend, error) {
	if err := opts.fill(); err != nil {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, fmt.Errorf("process backend: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("process backend: host name: %w", err)
	}
	short, _, _ := strings.Cut(boot, "-")
	return &Backend{
		opts: opts, layout: Layout{Dir: opts.TasksDir}, host: host, boot: boot,
		spool: filepath.Join(opts.SpoolDir, host+"-"+short),
		down:  connecting,
		given: map[task.Ref]*supervisorpb.Start{}, envs: map[task.Ref][]string{},
		stops: map[task.Ref]struct{}{}, told: map[task.Ref]told{},
		active: map[task.Ref]task.Task{}, limits: map[string]uint32{},
		wake: newWaker(), first: make(chan struct{}),
	}, nil
}

// Name returns the name of this backend.
func (b *Backend) Name() string { return Name }

// Layout says where the files of attempts are.
func (b *Backend) Layout() Layout { return b.layout }

// Down says why nothing can be handed over now; "" = it can.
func (b *Backend) Down() string {
	b.mu.Lock()
	defer b.mu.Unlock()
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
	return nil, task.Errorf(task.CodeUnavailable, "%s", cmp.Or(b.down, connecting))
}

// setSession changes the connection, or why there is none.
func (b *Backend) setSession(ss *session, down string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.session, b.down = ss, down
}

// Connected is closed when Watch has reached the supervisor for the first time.
func (b *Backend) Connected() <-chan struct{} { return b.first }

// Stop begins to end an attempt. Without a connection it is told as soon as
// there is one.
func (b *Backend) Stop(_ context.Context, t task.Task) error {
	ref := t.Ref()
	b.mu.Lock()
	b.stops[ref] = struct{}{}
	delete(b.given, ref)
	delete(b.envs, ref)
	ss := b.session
	b.mu.Unlock()
	if ss == nil {
		return nil
	}
	return ss.send(stopMessage(ref))
}

func stopMessage(refs ...task.Ref) *supervisorpb.ToSupervisor {
	return &supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Stop{Stop: &supervisorpb.StopBatch{Names: namesOf(refs)}}}
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
	for _, r := range refs {
		delete(b.told, r)
		delete(b.stops, r)
		delete(b.given, r)
		delete(b.envs, r)
	}
	b.mu.Unlock()
	b.removeFiles(refs)
	return ss.send(&supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Forget{Forget: &supervisorpb.ForgetBatch{Names: namesOf(refs)}}})
}

// removeFiles removes what only the run itself needed. The log stays.
func (b *Backend) removeFiles(refs []task.Ref) {
	for _, r := range refs {
		for _, path := range []string{b.layout.PayloadPath(r), b.layout.ResultPath(r)} {
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				b.opts.Logger.Warn("cannot remove a task's file", "task", r.Seq, "error", err)
			}
		}
	}
}
