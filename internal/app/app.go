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
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/process"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/version"
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
	// Ready is called once calls are accepted.
	Ready func(socket string)
}

// App is a running orchestrator.
type App struct {
	conf    config.Config
	log     *slog.Logger
	down    teardown
	started time.Time
	runtime string // directory of sockets

	queue     *queue.Queue
	process   *process.Backend
	engine    *engine.Engine
	server    *api.Server
	listeners []net.Listener
	sockets   []string
}

// Run starts the orchestrator, serves until ctx ends or a part fails, and stops.
func Run(ctx context.Context, o Options) (err error) {
	if err := os.MkdirAll(o.Config.LogDir, 0o700); err != nil {
		return fmt.Errorf("make the log folder: %w", err)
	}
	log, closeLog := newLogger(o.Config, o.LogEcho, slog.LevelInfo)
	a := &App{conf: o.Config, log: log, started: time.Now(), down: teardown{log: log}}
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
	log.Info("orchestrator stopping; running tasks go on", "error", err)
	return err
}

// build makes the parts, each with its teardown, without moving anything.
func (a *App) build(ctx context.Context, o Options) (err error) {
	if a.runtime, err = runtimedir.Dir(a.conf.RuntimeDir, os.Geteuid()); err != nil {
		return err
	}
	q, err := queue.Open(ctx, queue.Options{
		Dir: a.conf.QueueDir, Socket: runtimedir.SocketPath(a.runtime, a.conf.QueueDir), Logger: a.log.With("component", "queue"), Retention: retention(a.conf.Retention),
	})
	if err != nil {
		return err
	}
	a.queue = q
	a.down.push("queue", func(context.Context) error { return q.Close() })

	a.process, err = process.New(process.Options{
		QueueID: q.ID(), TasksDir: a.tasksDir(), SpoolDir: a.spoolDir(), RuntimeDir: a.runtime,
		Logger: a.log.With("component", "process"),
		Pool:   a.pool, BaseEnv: baseEnv(o.Environ),
		Nice: a.conf.Nice, LogCap: a.conf.Output.MaxLogBytes, ResultLimit: a.conf.Output.MaxResultBytes,
	})
	if err != nil {
		return fmt.Errorf("set up the process backend: %w", err)
	}
	a.engine, err = engine.New(engine.Options{
		Store:    q,
		Backends: []engine.Registration{{Backend: a.process, Local: true, NoImage: true}},
		Classes:  a.classes(),
		Capacity: a.capacity(),
		Wake:     q.Changed(),
		Logger:   a.log.With("component", "engine"),
	})
	if err != nil {
		return err
	}
	if err := a.listen(); err != nil {
		return err
	}
	a.server, err = api.New(api.Options{
		Queue: queuePort{q}, Log: logPort{q}, Mover: moverPort{a.engine, q}, Outputs: outputs{a.process.Layout()},
		Class: a.class, Info: a.info, Workspace: a.conf.Workspace, Logger: a.log,
	})
	return err
}

// serve runs the parts until ctx ends or one fails.
func (a *App) serve(ctx context.Context, ready func(socket string)) error {
	g, ctx := errgroup.WithContext(ctx)
	if ready != nil {
		g.Go(func() error {
			a.awaitParts(ctx)
			ready(a.sockets[0])
			return nil
		})
	}
	g.Go(func() error { return a.engine.Run(ctx) })
	g.Go(func() error { return a.server.Serve(ctx, a.listeners...) })
	g.Go(func() error {
		h := housekeeper{queue: a.queue, paths: a.process.Layout().Files, log: a.log.With("component", "housekeeping")}
		h.run(ctx)
		return nil
	})
	done := make(chan error, 1)
	go func() { done <- g.Wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	select {
	case err := <-done:
		return err
	case <-late.Done():
		return fmt.Errorf("engine, server or housekeeping: %w", errTooSlow)
	}
}

// readyPatience is how long the start waits for the process supervisor. Tasks are
// accepted without it, so it does not hold up the start for good.
const readyPatience = 3 * time.Second

// awaitParts returns when all parts work, or after readyPatience.
func (a *App) awaitParts(ctx context.Context) {
	t := time.NewTimer(readyPatience)
	defer t.Stop()
	select {
	case <-a.process.Connected():
	case <-t.C:
		a.log.Warn("the process supervisor is not there yet; tasks are accepted and wait", "reason", a.process.Down())
	case <-ctx.Done():
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
	return localPool, int(a.capacity().CPUMilli / 1000)
}

// capacity is what this machine has for tasks.
func (a *App) capacity() scheduler.Capacity {
	c := scheduler.Capacity{CPUMilli: a.conf.CPUMilli, MemBytes: a.conf.MemBytes}
	if c.CPUMilli == 0 {
		c.CPUMilli = int64(config.MachineCPUs()) * 1000
	}
	if c.MemBytes == 0 {
		c.MemBytes = config.MachineMemory()
	}
	return c
}
