package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/process"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/version"
	"github.com/dspy-agent/dspy-agent/internal/worker"
	"github.com/dspy-agent/dspy-agent/internal/workers"
	"github.com/dspy-agent/dspy-agent/slurm"
)

// WorkerOptions say what a worker is to have. What is zero is found out.
type WorkerOptions struct {
	Config  config.Config
	Environ []string
	Log     io.Writer // lines about what it does
	CPUs    int
	GPUs    []string      // as CUDA_VISIBLE_DEVICES names them
	For     time.Duration // how long it works; 0 = until its job ends
	Idle    time.Duration // how long it waits for a task; 0 = for ever
	Auto    bool          // the orchestrator has submitted its job
	By      string        // how it reaches the owner: one of WorkerWays; "" = as is best
	Started func(w WorkerInfo)
}

// WorkerInfo is what a worker found out.
type WorkerInfo struct {
	ID, Job string
	CPUs    int
	GPUs    []string
	Until   time.Time
}

// WorkerReport is what became of it.
type WorkerReport = worker.Summary

// Worker leases tasks from the owner of the queue, and runs them here, until ctx ends,
// its time is over, or nothing comes.
func Worker(ctx context.Context, o WorkerOptions) (WorkerReport, error) {
	log := slog.New(slog.NewTextHandler(o.Log, nil)).With("component", "worker")
	queueID, err := workers.QueueOf(workersDir(o.Config))
	if errors.Is(err, fs.ErrNotExist) {
		return WorkerReport{}, task.Errorf(task.CodeUnavailable,
			"no daemon has run yet on the queue in %s, so there is nobody to lease tasks from; start one on the login node with: dspy-agent start (is the folder the one that it has?)", o.Config.QueueDir)
	}
	if err != nil {
		return WorkerReport{}, err
	}
	alloc, err := allocation(ctx, o)
	if err != nil {
		return WorkerReport{}, err
	}
	f, card, err := makeFolder(o, alloc)
	if err != nil {
		return WorkerReport{}, err
	}
	run, err := workerRuntime(o.Config, f.ID())
	if err != nil {
		return WorkerReport{}, errors.Join(err, f.Remove())
	}
	runner, err := newRunner(o, queueID, f, run, card, log)
	if err != nil {
		return WorkerReport{}, errors.Join(err, f.Remove())
	}
	r := newReach(o.Config, f, o.By, log)
	defer r.close()
	if o.Started != nil {
		o.Started(WorkerInfo{ID: f.ID(), Job: card.Job, CPUs: int(card.CPUMilli / 1000), GPUs: alloc.GPUs, Until: card.Until})
	}
	return worker.Run(ctx, worker.Options{
		Folder: f, Owner: r, Runner: runner, Logger: log, CPUMilli: card.CPUMilli, MemBytes: card.MemBytes, GPUs: alloc.GPUs,
		Until: card.Until, Margin: card.Margin, Idle: o.Idle, InJob: card.Job != "",
	})
}

// allocation is what Slurm gave, or what this machine has.
func allocation(ctx context.Context, o WorkerOptions) (slurm.Allocation, error) {
	a, err := (&slurm.Client{Env: slurm.Environment(o.Environ)}).Allocation(ctx, o.Environ)
	if err != nil {
		return a, err
	}
	if o.CPUs > 0 {
		a.CPUs = o.CPUs
	}
	if a.CPUs == 0 {
		a.CPUs = config.MachineCPUs()
	}
	if len(o.GPUs) > 0 {
		a.GPUs = o.GPUs
	}
	if o.For > 0 {
		if until := time.Now().Add(o.For); a.Until.IsZero() || until.Before(a.Until) {
			a.Until = until
		}
	}
	return a, nil
}

// makeFolder makes the worker's folder, by which it is known from then on.
func makeFolder(o WorkerOptions, a slurm.Allocation) (lease.Folder, lease.Card, error) {
	here, err := host.This()
	if err != nil {
		return lease.Folder{}, lease.Card{}, err
	}
	self, err := host.Self()
	if err != nil {
		return lease.Folder{}, lease.Card{}, err
	}
	card := lease.Card{
		Process: self, Where: here, Job: a.Job, Auto: o.Auto, Until: a.Until, CPUMilli: int64(a.CPUs) * 1000, MemBytes: a.MemBytes, GPUs: len(a.GPUs),
		Margin: worker.DefaultMargin, Version: version.String(),
	}
	if left := time.Until(a.Until); !a.Until.IsZero() && left < 10*card.Margin {
		card.Margin = max(left/10, time.Second) // a short job, of which not all is to be margin
	}
	f := lease.FolderOf(workersDir(o.Config), strings.ToLower(rand.Text()[:16]))
	if err := f.Make(card); err != nil {
		return f, card, errors.Join(err, f.Remove())
	}
	return f, card, nil
}

// workerRuntime makes the directory for the socket of the worker's own supervisor: tasks
// of a job have to be in the job, and not with the supervisor of another.
func workerRuntime(c config.Config, id string) (string, error) {
	dir, err := runtimedir.Dir(c.RuntimeDir, os.Geteuid())
	if err != nil {
		return "", err
	}
	sweepRuntimes(dir)
	dir = filepath.Join(dir, workerPrefix+id)
	return dir, runtimedir.Ensure(dir, os.Geteuid())
}

const workerPrefix = "worker-"

// sweepRuntimes removes what workers have left that have no supervisor any more.
func sweepRuntimes(dir string) {
	old, err := filepath.Glob(filepath.Join(dir, workerPrefix+"*"))
	if err != nil {
		return
	}
	for _, d := range old {
		info, err := os.Stat(d)
		if err == nil && time.Since(info.ModTime()) > time.Hour && process.Idle(d) {
			_ = os.RemoveAll(d) // it is tried again by the next worker
		}
	}
}

// newRunner makes what runs the tasks.
func newRunner(o WorkerOptions, queueID string, f lease.Folder, run string, c lease.Card, log *slog.Logger) (*process.Backend, error) {
	b, err := process.New(process.Options{
		QueueID: queueID, TasksDir: filepath.Join(o.Config.QueueDir, "tasks"), SpoolDir: f.Spool(), RuntimeDir: run, Logger: log,
		BaseEnv: baseEnv(o.Environ), LogCap: o.Config.Output.MaxLogBytes, ResultLimit: o.Config.Output.MaxResultBytes, Idle: 5 * time.Second,
		Pool: func(t task.Task) (string, int) {
			if !worker.Plain(t) {
				return "", 0
			}
			return localPool, int(c.CPUMilli / 1000)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("set up what runs tasks: %w", err)
	}
	return b, nil
}
