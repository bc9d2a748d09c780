package process

import (
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

// Backend runs attempts as processes of this host. The processes belong to the
// supervisor, so a Backend can go away and come back at any time.
type Backend struct {
	opts   Options
	layout Layout
	spool  string
	host   string
	boot   string

	mu sync.Mutex
	// session is nil while there is no connection; changed is closed and replaced
	// whenever that or down changes.
	session *session
	down    string
	changed chan struct{}
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
		spool:   filepath.Join(opts.SpoolDir, host+"-"+short),
		changed: make(chan struct{}),
		given:   map[task.Ref]*supervisorpb.Start{}, envs: map[task.Ref][]string{},
		stops: map[task.Ref]struct{}{}, told: map[task.Ref]told{},
		active: map[task.Ref]task.Task{}, limits: map[string]uint32{},
		wake: newWaker(),
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

// connected waits for the connection. It does not wait for one that was tried
// and failed.
func (b *Backend) connected(ctx context.Context) (*session, error) {
	for {
		b.mu.Lock()
		ss, down, changed := b.session, b.down, b.changed
		b.mu.Unlock()
		if ss != nil {
			return ss, nil
		}
		if down != "" {
			return nil, task.Errorf(task.CodeUnavailable, "%s", down)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

// setSession changes the connection, or why there is none.
func (b *Backend) setSession(ss *session, down string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.session, b.down = ss, down
	close(b.changed)
	b.changed = make(chan struct{})
}

// Stop begins to end an attempt.
func (b *Backend) Stop(ctx context.Context, t task.Task) error {
	ref := t.Ref()
	b.mu.Lock()
	b.stops[ref] = struct{}{}
	delete(b.given, ref)
	b.mu.Unlock()
	ss, err := b.connected(ctx)
	if err != nil {
		return err
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
func (b *Backend) Forget(ctx context.Context, refs []task.Ref) error {
	ss, err := b.connected(ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	for _, r := range refs {
		delete(b.told, r)
		delete(b.stops, r)
		delete(b.given, r)
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
