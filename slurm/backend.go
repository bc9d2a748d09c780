package slurm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// Name is the name of this backend in task.Status.Backend.
const Name = "slurm"

// connecting is why nothing can be handed over before the controller has answered.
const connecting = "asking for Slurm"

// Backend runs attempts as jobs. The jobs are Slurm's, so a Backend can go away and come
// back at any time.
type Backend struct {
	opts   Options
	layout taskfiles.Layout
	host   string

	mu       sync.Mutex
	down     string
	absent   bool
	settings Settings
	jobs     map[task.Ref]*job
	fresh    map[task.Ref]*job // of those, the ones of which something may be new
	unsent   map[task.Ref]*job // that are to be submitted, or looked for
	curious  map[task.Ref]*job // of which sacct is to tell why they ended
	doomed   map[task.Ref]*job // that have jobs in Slurm which are to be cancelled
	out      []task.Change     // for Watch to report
	turned   bool              // what we are able to do has changed: the engine is to look
	poke     chan struct{}     // of capacity 1: Watch has something to do

	// Of the goroutine of Watch.
	news     newsReader
	said     saidBefore
	settled  int           // how often an attempt was looked at
	period   time.Duration // between two calls of squeue, as the attempts are
	listing  bool          // squeue is being called
	asking   bool          // sacct is being called
	listed   time.Time     // when it was called last
	failures int           // of squeue in a row
	submits  int           // calls of sbatch that are under way
	ending   bool          // scancel is being called
	leftover map[string]time.Time
	results  chan func() // what calls that ended have to say, for the goroutine of Watch
}

// New makes a backend. It calls Slurm when Watch runs.
func New(opts Options) (*Backend, error) {
	if err := opts.fill(); err != nil {
		return nil, err
	}
	id, err := host.This()
	if err != nil {
		return nil, fmt.Errorf("slurm backend: %w", err)
	}
	l := taskfiles.Layout{Dir: opts.TasksDir}
	return &Backend{
		opts: opts, layout: l, host: id.Name, down: connecting, jobs: map[task.Ref]*job{}, fresh: map[task.Ref]*job{}, unsent: map[task.Ref]*job{}, doomed: map[task.Ref]*job{}, curious: map[task.Ref]*job{}, poke: make(chan struct{}, 1),
		news: newsReader{path: newsPath(l)}, leftover: map[string]time.Time{}, results: make(chan func(), mostSubmits+3),
	}, nil
}

// Name returns the name of this backend.
func (b *Backend) Name() string { return Name }

// Down says why nothing can be handed over now; "" = it can.
func (b *Backend) Down() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.down
}

// Absent says that there is no Slurm on this host.
func (b *Backend) Absent() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.absent
}

// Launch takes attempts over. Watch does the rest.
func (b *Backend) Launch(_ context.Context, tasks []task.Task) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range tasks {
		j, ok := b.jobs[t.Ref()]
		if !ok {
			j = b.newJob(t)
			if err := j.recall(); err != nil {
				return err
			}
			b.jobs[t.Ref()] = j
		}
		if !j.whole {
			j.task, j.whole = t, true
		}
		b.out = append(b.out, j.history...)
		b.touch(j)
	}
	b.ring()
	return nil
}

// Stop has the job of an attempt end. An attempt that was never handed over gets its
// claim taken, so that none can begin.
func (b *Backend) Stop(_ context.Context, t task.Task) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	j, ok := b.jobs[t.Ref()]
	if !ok {
		j = b.newJob(t)
		if err := j.recall(); err != nil {
			return err
		}
		b.jobs[t.Ref()] = j
	}
	if !j.stop {
		j.stop, j.cause = true, t.Status().Cause
	}
	if j.ended {
		b.out = append(b.out, j.history...)
	}
	b.touch(j)
	b.ring()
	return nil
}

// Forget removes what was kept about attempts whose ends are stored.
func (b *Backend) Forget(_ context.Context, refs []task.Ref) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, ref := range refs {
		j, ok := b.jobs[ref]
		if ok && (!j.ended || j.submitting) {
			continue // the end that is stored was told by somebody before us; it will be told again
		}
		// A job that comes late finds no folder, and does nothing.
		if err := (folder{b.layout, ref}).remove(); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(b.jobs, ref)
		delete(b.fresh, ref)
		delete(b.unsent, ref)
		delete(b.doomed, ref)
		delete(b.curious, ref)
		b.said.over(ref)
		b.period = 0 // there may be less to ask about
	}
	return errors.Join(errs...)
}

// touch notes that something of an attempt may be new. The mutex is held.
func (b *Backend) touch(j *job) { b.fresh[j.ref] = j }

// ring has Watch look.
func (b *Backend) ring() {
	select {
	case b.poke <- struct{}{}:
	default:
	}
}

// setDown notes whether Slurm answers. The mutex is held.
func (b *Backend) setDown(err error) {
	was := b.down
	b.absent = errors.Is(err, ErrMissing)
	switch {
	case err == nil:
		b.down = ""
	case b.absent:
		b.down = err.Error() + " (module load slurm, or run the daemon on a login node)"
	default:
		b.down = err.Error() + "; what runs goes on, and is looked at when it does"
	}
	if was == b.down {
		return
	}
	b.turned = true
	switch {
	case err == nil:
		b.opts.Logger.Info("slurm answers", "cluster", b.settings.Cluster, "version", b.settings.Version)
	case !b.absent && b.said.due(b.opts.Now(), "ask", task.Ref{}, err):
		b.opts.Logger.Warn("slurm does not answer", "error", err)
	}
}

// doubt is how long a job is looked for after an answer that was none.
func (b *Backend) doubt() time.Duration {
	switch {
	case b.opts.Doubt > 0:
		return b.opts.Doubt
	case b.settings.MessageTimeout > 0:
		return 2 * b.settings.MessageTimeout
	default:
		return 20 * time.Second
	}
}
