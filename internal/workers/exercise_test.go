package workers_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/backendtest"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/process"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
	"github.com/dspy-agent/dspy-agent/internal/worker"
	"github.com/dspy-agent/dspy-agent/internal/workers"
)

func TestMain(m *testing.M) {
	if process.IsSupervisor(os.Args) {
		os.Exit(process.SupervisorMain(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// logWriter puts the log into that of the test.
type logWriter struct {
	t  testing.TB
	mu *sync.Mutex
}

func (w logWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Log(string(bytes.TrimSpace(b)))
	return len(b), nil
}

// place is a queue's folder, and the workers over it.
type place struct {
	t       testing.TB
	queueID string // its own: by it supervisors know what a task has started
	dir     string
	log     *slog.Logger
	unheard time.Duration

	mu    sync.Mutex
	owner *workers.Backend // of the present daemon; nil = there is none
}

func newPlace(t testing.TB) *place {
	// A socket's path has to be short.
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return &place{t: t, queueID: strings.ToLower(rand.Text()), dir: dir, log: slog.New(slog.NewTextHandler(logWriter{t, &sync.Mutex{}}, nil))}
}

func (p *place) workersDir() string { return filepath.Join(p.dir, "spool", "workers") }

func (p *place) tasksDir() string { return filepath.Join(p.dir, "tasks") }

func (p *place) processOptions(spool, run string) process.Options {
	return process.Options{QueueID: p.queueID, TasksDir: p.tasksDir(), SpoolDir: spool, RuntimeDir: run, Logger: p.log, Idle: time.Minute, NoCgroups: true}
}

// open makes a backend, as a daemon does that just started.
func (p *place) open(t testing.TB) *workers.Backend {
	t.Helper()
	b, err := workers.New(workers.Options{
		Dir: p.workersDir(), QueueID: p.queueID, Logger: p.log, Answer: api.AnswerWorker, Unheard: p.unheard,
		Remains: func(dir string) (workers.Remains, error) {
			return process.NewRemains(p.processOptions(dir, filepath.Join(p.dir, "r")))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owner = b
	return b
}

var errAway = task.Errorf(task.CodeUnavailable, "there is no daemon")

func (p *place) now() (*workers.Backend, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.owner == nil {
		return nil, errAway
	}
	return p.owner, nil
}

// Lease, Extend and Complete are those of the present daemon, as a connection would find it.
func (p *place) Lease(ctx context.Context, w lease.Want) (lease.Grant, error) {
	b, err := p.now()
	if err != nil {
		return lease.Grant{}, err
	}
	w.Wait = min(w.Wait, 100*time.Millisecond)
	return b.Lease(ctx, w)
}

func (p *place) Extend(ctx context.Context, h lease.Hold) (lease.Orders, error) {
	b, err := p.now()
	if err != nil {
		return lease.Orders{}, err
	}
	h.Wait = min(h.Wait, 100*time.Millisecond)
	return b.Extend(ctx, h)
}

func (p *place) Complete(ctx context.Context, id string, reports []lease.Report) ([]task.Ref, error) {
	b, err := p.now()
	if err != nil {
		return nil, err
	}
	return b.Complete(ctx, id, reports)
}

// folder makes the folder of a worker.
func (p *place) folder(t testing.TB, id string, cpus int) lease.Folder {
	t.Helper()
	return p.folderOf(t, id, lease.Card{CPUMilli: int64(cpus) * 1000})
}

func (p *place) folderOf(t testing.TB, id string, c lease.Card) lease.Folder {
	t.Helper()
	here, err := host.This()
	self, err2 := host.Self()
	c.Process, c.Where = self, here
	f := lease.FolderOf(p.workersDir(), id)
	if err := errors.Join(err, err2, f.Make(c)); err != nil {
		t.Fatal(err)
	}
	return f
}

// work runs a worker until the test ends.
func (p *place) work(t testing.TB, id string, cpus int, owner lease.Owner) {
	t.Helper()
	p.workUntil(t, id, cpus, owner, time.Time{})
}

// workUntil runs a worker whose time ends.
func (p *place) workUntil(t testing.TB, id string, cpus int, owner lease.Owner, until time.Time) {
	t.Helper()
	f := p.folderOf(t, id, lease.Card{CPUMilli: int64(cpus) * 1000, Until: until, Margin: time.Second})
	run := filepath.Join(p.dir, "r-"+id)
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	runner, err := process.New(p.processOptions(f.Spool(), run))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := worker.Run(ctx, worker.Options{Folder: f, Owner: owner, Runner: runner, Logger: p.log, CPUMilli: int64(cpus) * 1000, Grace: time.Millisecond, Margin: time.Second, Until: until})
		if err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		endSupervisor(t, run)
	})
}

// endSupervisor kills the supervisor of a worker, which would wait for more work.
func endSupervisor(t testing.TB, run string) {
	t.Helper()
	lock := filepath.Join(run, "supervisor.lock")
	for pid := host.Holder(lock); pid != 0; pid = host.Holder(lock) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Error(err)
			return
		}
	}
}

func (p *place) output(t testing.TB, ref task.Ref) string {
	t.Helper()
	b, err := os.ReadFile(taskfiles.Layout{Dir: p.tasksDir()}.LogPath(ref))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

func TestExercise(t *testing.T) {
	t.Parallel()
	backendtest.Exercise(t, func(t *testing.T) backendtest.Place {
		p := newPlace(t)
		p.work(t, "worker"+strings.Repeat("a", 8), 4, p)
		return backendtest.Place{
			Open:   func(t *testing.T) backendtest.Backend { return p.open(t) },
			Output: func(t *testing.T, ref task.Ref) string { return p.output(t, ref) },
			Can: backendtest.Abilities{
				Payload: true, ResultFile: true, Marker: true, TimeLimit: true, HostProcess: true, ExitCodes: true, Signals: true, OneStream: true, PreExec: true,
			},
		}
	})
}
