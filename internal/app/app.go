package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/container"
	"github.com/dspy-agent/dspy-agent/internal/doors"
	"github.com/dspy-agent/dspy-agent/internal/dropfolder"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/gpupool"
	"github.com/dspy-agent/dspy-agent/internal/gpuprobe"
	"github.com/dspy-agent/dspy-agent/internal/metrics"
	"github.com/dspy-agent/dspy-agent/internal/process"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
	"github.com/dspy-agent/dspy-agent/internal/version"
	"github.com/dspy-agent/dspy-agent/internal/workers"
	"github.com/dspy-agent/dspy-agent/queue"
)

// Options are what Run needs.
type Options struct {
	Config config.Config
	// Environ is the environment of the daemon, as "K=V"; tasks get a few basics
	// of it when their submitter gave none.
	Environ []string
	// LogEcho gets the log beside the file; nil = nobody.
	LogEcho io.Writer
	// TakeOver goes on from a copy of the queue where its owner, on another host, cannot
	// be shown to be dead and gives no sign of life.
	TakeOver bool
	// Watches is as in DrainOptions.
	Watches func(o *Owner, left time.Duration)
	// Ready is called once calls are accepted.
	Ready func(socket string)

	drain *drain // nil = it is a daemon
}

// App is a running orchestrator.
type App struct {
	conf     config.Config
	drain    *drain // nil = this is a daemon
	capacity scheduler.Capacity
	log      *slog.Logger
	down     teardown
	parts    parts
	started  time.Time
	runtime  string // directory of sockets

	metrics    *metrics.Metrics
	queue      *queue.Queue
	process    *process.Backend
	containers *container.Backend
	backends   map[string]engine.Backend // by name: those that run tasks, or stand for them
	engine     *engine.Engine
	workers    *workers.Backend // nil: nobody hands out tasks
	auto       *autoWorkers     // nil: nobody submits workers
	gpus       *gpupool.Pool    // nil: nobody looks at GPUs
	watcher    *gpuprobe.Watcher
	server     *api.Server
	http       *api.HTTPServer
	folder     *dropfolder.Folder
	doors      doors.Doors
	listeners  []net.Listener
	sockets    []string
}

// ownProgram is this program, as a child that tries a file system which may hang.
const ownProgram = "/proc/self/exe"

// collectAt is how much the heap may grow, in percent, before garbage is
// collected. What the daemon keeps is small (megabytes), and what a call or a
// task leaves behind is much in comparison: at Go's 100 a sixth of all its CPU
// time, which on this machine is taken from tasks, went into collecting.
const collectAt = 400

// Run starts the orchestrator, serves until ctx ends or a part fails, and stops.
func Run(ctx context.Context, o Options) (err error) {
	if os.Getenv("GOGC") == "" {
		defer debug.SetGCPercent(debug.SetGCPercent(collectAt))
	}
	if err := LogFolderAnswers(ctx, o.Config); err != nil {
		return err
	}
	if err := MakeLogFolder(o.Config); err != nil {
		return err
	}
	log, closeLog := newLogger(logFile(o.Config), o.LogEcho, slog.LevelInfo)
	a := &App{conf: o.Config, drain: o.drain, capacity: capacityOf(o.Config), log: log, started: time.Now(), down: teardown{log: log}, parts: newParts()}
	a.down.push("log", func(context.Context) error { return closeLog() })
	defer func() {
		if stopErr := a.down.run(); stopErr != nil {
			err = errors.Join(err, stopErr)
		}
	}()
	if err := a.build(ctx, o); err != nil {
		log.Error("the orchestrator could not start", "error", err)
		return err
	}
	log.Info("orchestrator started", "version", version.String(), "workspace", a.conf.Workspace, "queue", a.queue.ID(), "sockets", a.sockets)
	err = a.serve(ctx, o.Ready)
	if lost := a.queue.Err(); lost != nil {
		err = lost // every part that has met it says so in its own words
	}
	if err == nil {
		log.Info("orchestrator stopping; running tasks go on")
	} else {
		log.Error("a part failed, so the orchestrator stops; running tasks go on", "error", err)
	}
	return err
}

// build makes the parts, each with its teardown, without moving anything.
func (a *App) build(ctx context.Context, o Options) (err error) {
	if a.runtime, err = runtimedir.Dir(a.conf.RuntimeDir, os.Geteuid()); err != nil {
		return err
	}
	if a.metrics, err = a.newMetrics(); err != nil {
		return err
	}
	opts := a.queueOptions()
	opts.Socket, opts.TakeOver, opts.OnWatch = runtimedir.SocketPath(a.runtime, a.conf.QueueDir), o.TakeOver, o.Watches
	q, err := a.openQueue(ctx, opts)
	if err != nil {
		return err
	}
	if o.Watches != nil {
		o.Watches(nil, 0)
	}
	a.queue = q
	a.down.push("queue", func(context.Context) error { return q.Close() })

	a.process, err = process.New(process.Options{
		QueueID: q.ID(), TasksDir: a.tasksDir(), SpoolDir: a.spoolDir(), RuntimeDir: a.runtime,
		Logger:     a.log.With("component", "process"),
		LeaseUntil: q.LeaseUntil, Fence: q.Fence(),
		Env:  a.gpuEnv,
		Pool: a.pool, BaseEnv: baseEnv(o.Environ), Known: a.known,
		Nice: a.conf.Nice, LogCap: a.conf.Output.MaxLogBytes, ResultLimit: a.conf.Output.MaxResultBytes,
	})
	if err != nil {
		return fmt.Errorf("set up the process backend: %w", err)
	}
	if a.containers, err = a.newContainers(o.Environ); err != nil {
		return err
	}
	if err := a.newGPUs(o.Environ); err != nil {
		return err
	}
	jobs, err := a.newSlurm(o.Environ)
	if err != nil {
		return err
	}
	if err := a.newWorkers(o.Environ); err != nil {
		return err
	}
	if err := a.newEngine(asProcess(a.process), asContainer(a.containers), asSlurm(jobs, a.conf.Slurm.MaxJobs), asWorkers(a.workers)); err != nil {
		return err
	}
	if err := a.listen(); err != nil {
		return err
	}
	if err := a.openDoors(ctx); err != nil {
		return err
	}
	if err := a.newServer(moverPort{a.engine, q}, false); err != nil {
		return err
	}
	if a.http, err = a.newHTTP(); err != nil {
		return err
	}
	a.folder, err = a.newDropFolder()
	return err
}

func (a *App) queueOptions() queue.Options {
	return queue.Options{
		OnCommit: a.committed,
		Program:  ownProgram,
		Role:     a.role(),
		Dir:      a.conf.QueueDir, Logger: a.log.With("component", "queue"), Retention: retention(a.conf.Retention), MaxWaiting: a.conf.Limits.MaxWaiting,
	}
}

// newEngine makes the engine over the queue and the backends.
func (a *App) newEngine(backends ...engine.Registration) (err error) {
	a.backends = make(map[string]engine.Backend, len(backends))
	for _, r := range backends {
		a.backends[r.Backend.Name()] = r.Backend
	}
	a.engine, err = engine.New(engine.Options{
		Store:    a.queue,
		Backends: backends,
		Classes:  a.classes(),
		Capacity: a.capacity,
		GPUs:     a.inventory(),
		Wake:     a.queue.Changed(),
		Meter:    a.metrics,
		Quiet:    a.whenQuiet(),
		Logger:   a.log.With("component", "engine"),
	})
	return err
}

// newServer makes the server of calls over the queue and the engine.
func (a *App) newServer(mover api.Mover, pair bool) (err error) {
	q := a.queue
	owner, workerOf := a.leaseOwner()
	a.server, err = api.New(api.Options{
		Queue: queuePort{q}, Log: logPort{q}, Mover: mover, Outputs: outputs{taskfiles.Layout{Dir: a.tasksDir()}}, Metrics: a.metrics,
		Pauser: pauser{a.engine, q}, Keeper: keeper{a.engine, q}, Stats: a.stats, Images: a.images, PruneImages: a.imagePruner(),
		Class: a.resolver(), AdmitContainer: a.admit(), Types: a.taskTypes(), Info: a.info, Workspace: a.conf.Workspace, Logger: a.log, Token: a.doors.Token,
		GPUs: a.gpuPort(), Jobs: newJobs(a.conf), Workers: owner, WorkerOf: workerOf,
		Machine: api.Machine{CPUMilli: a.capacity.CPUMilli, MemBytes: a.capacity.MemBytes},
		Missing: a.engine.Missing,
		Pair:    pair,
	})
	return err
}

// serve runs the parts until ctx ends or one fails. They are ended by their teardown:
// first the doors, so that whoever still waits for an answer of the engine gets it.
func (a *App) serve(ctx context.Context, ready func(socket string)) error {
	a.runGPUs()
	a.run("engine", a.engine.Run)
	a.run("watch over the database", a.watchDatabase)
	a.run("housekeeping", func(ctx context.Context) error {
		h := housekeeper{queue: a.queue, paths: a.process.Layout().Files, log: a.log.With("component", "housekeeping")}
		h.run(ctx)
		return nil
	})
	if a.auto != nil {
		a.run("worker jobs", a.auto.run)
	}
	a.run("drop folder", a.folder.Run)
	a.run("doors", a.serveDoors)
	if a.drain != nil {
		a.drain.leave(a.drain.await(ctx, a), a)
		return a.parts.failureIfAny()
	}
	if a.awaitParts(ctx) && ready != nil {
		ready(a.sockets[0])
	}
	select {
	case <-ctx.Done():
		return nil
	case <-a.parts.ended:
		return a.parts.failure
	}
}

// serveDoors answers calls until ctx ends and those under way have been answered or
// cut off.
func (a *App) serveDoors(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.server.Serve(ctx, append(a.listeners, a.doors.GRPC.Listeners...)...) })
	if len(a.doors.HTTP.Listeners) > 0 {
		g.Go(func() error { return a.http.Serve(ctx, a.doors.HTTP.Listeners...) })
	}
	return g.Wait()
}

// readyPatience is how long the start waits for the process supervisor. Tasks are
// accepted without it, so it does not hold up the start for good.
const readyPatience = 3 * time.Second

// awaitParts returns when all parts work, or after readyPatience. false says that a
// part failed, or that somebody asked us to leave. Then nobody may be told that we
// are ready, even if the supervisor was reached at the same moment.
func (a *App) awaitParts(ctx context.Context) bool {
	t := time.NewTimer(readyPatience)
	defer t.Stop()
	select {
	case <-a.process.Connected():
	case <-t.C:
		a.log.Warn("the process supervisor is not there yet; tasks are accepted and wait", "reason", a.process.Down())
	case <-ctx.Done():
	case <-a.parts.ended:
	}
	select {
	case <-a.parts.ended:
		return false
	default:
		return ctx.Err() == nil
	}
}

func (a *App) spoolDir() string { return filepath.Join(a.conf.QueueDir, "spool") }

func (a *App) tasksDir() string { return filepath.Join(a.conf.QueueDir, "tasks") }

// localPool is the line in the supervisor for tasks of one CPU, which can take
// over one another's slots. Others are started as soon as they are handed over:
// the scheduler has made room for them.
const localPool = "local"

func (a *App) pool(t task.Task) (string, int) {
	if t.Spec.Resources.CPU() != 1000 {
		return "", 0
	}
	return localPool, int(a.capacity.CPUMilli / 1000)
}

// capacityOf is what this machine has for tasks. To find it takes a dozen files,
// so it is found once.
func capacityOf(conf config.Config) scheduler.Capacity {
	c := scheduler.Capacity{CPUMilli: conf.CPUMilli, MemBytes: conf.MemBytes}
	if c.CPUMilli == 0 {
		c.CPUMilli = int64(config.MachineCPUs()) * 1000
	}
	if c.MemBytes == 0 {
		c.MemBytes = config.MachineMemory()
	}
	return c
}
