package slurm

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/backendtest"
	"github.com/dspy-agent/dspy-agent/internal/slurmtest"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

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

// place is what outlives a daemon: a queue's folder, and its jobs.
type place struct {
	opts Options
}

func newPlace(t testing.TB, c *slurmtest.Cluster) *place {
	t.Helper()
	p := &place{opts: Options{
		QueueID: strings.ToLower(rand.Text()), TasksDir: filepath.Join(t.TempDir(), "tasks"),
		Slurm:  &Client{Env: c.Env()},
		Logger: slog.New(slog.NewTextHandler(logWriter{t, &sync.Mutex{}}, nil)),
	}}
	t.Cleanup(func() { p.clear(t) })
	return p
}

// clear ends what is left of its jobs: one that goes on would write into a folder that is
// being removed.
func (p *place) clear(t testing.TB) {
	ctx := context.Background()
	for {
		jobs, err := p.opts.Slurm.Queue(ctx, prefixOf(p.opts.QueueID))
		if err != nil {
			t.Error(err)
			return
		}
		jobs = slices.DeleteFunc(jobs, func(j Job) bool { return j.State.phase() == gone })
		if len(jobs) == 0 {
			return
		}
		for _, j := range jobs {
			if err := p.opts.Slurm.Cancel(ctx, j.ID); err != nil {
				t.Error(err)
			}
		}
	}
}

func (p *place) open(t testing.TB) *Backend {
	t.Helper()
	b, err := New(p.opts)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (p *place) output(t *testing.T, ref task.Ref) string {
	t.Helper()
	b, err := os.ReadFile(taskfiles.Layout{Dir: p.opts.TasksDir}.LogPath(ref))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

func TestExercise(t *testing.T) {
	t.Parallel()
	c := slurmtest.Shared(t, slurmtest.Config{})
	backendtest.Exercise(t, func(t *testing.T) backendtest.Place {
		p := newPlace(t, c)
		return backendtest.Place{
			Open:     func(t *testing.T) backendtest.Backend { return p.open(t) },
			Output:   p.output,
			Patience: 2 * time.Minute,
			Can: backendtest.Abilities{
				Payload: true, ResultFile: true, Marker: true, TimeLimit: true, ExitCodes: true, Signals: true, OneStream: true, PreExec: true,
			},
		}
	})
}
