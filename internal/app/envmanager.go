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
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/dspy-agent/dspy-agent/envmgr"
	envapi "github.com/dspy-agent/dspy-agent/envmgr/api"
	"github.com/dspy-agent/dspy-agent/envmgr/compose"
	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/doors"
	"github.com/dspy-agent/dspy-agent/internal/metrics"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
	"github.com/dspy-agent/dspy-agent/internal/services"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/version"
	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

// EnvManagerOptions are what RunEnvManager needs.
type EnvManagerOptions struct {
	Config  config.Config
	Environ []string
	// LogEcho gets the log beside the file; nil = nobody.
	LogEcho io.Writer
	// Said gets the lines that scripts in the field look for.
	Said io.Writer
	// Services are to be up from the beginning; nil = those that were wanted last, else all.
	Services []string
	// Ready is called once calls are accepted.
	Ready func(socket string)
}

// envManager is a running env-manager.
type envManager struct {
	conf   config.Config
	log    *slog.Logger
	down   teardown
	engine *docker.Client
	set    envmgr.Set
	sup    *envmgr.Supervisor
	wants  *wants
	meter  *metrics.Services
	doors  *doors.Doors
	server *rpc.Server
	http   *rpc.HTTP
	socket net.Listener
}

// RunEnvManager cares for the supporting services until ctx ends, and leaves them as they
// are. The error of a second one is a task.Error with CodeConflict.
func RunEnvManager(ctx context.Context, o EnvManagerOptions) (err error) {
	if err := MakeLogFolder(o.Config); err != nil {
		return err
	}
	level := slog.LevelInfo
	if o.Config.EnvManager.Verbose {
		level = slog.LevelDebug
	}
	log, closeLog := newLogger(envManagerLog(o.Config), o.LogEcho, level)
	e := &envManager{conf: o.Config, log: log, down: teardown{log: log}}
	e.down.push("log", func(context.Context) error { return closeLog() })
	defer func() { err = errors.Join(err, e.down.run()) }()
	fmt.Fprintf(o.Said, "Starting DSPy Environment Manager v%s\n", version.String())
	if err := e.build(ctx, o); err != nil {
		log.Error("env-manager could not start", "error", err)
		return err
	}
	log.Info("env-manager started", "version", version.String(), "workspace", e.conf.Workspace, "services", e.set.Names())
	err = e.serve(ctx, o)
	log.Info("env-manager ends; the services go on")
	return err
}

// envManagerSocket is its name in the runtime directory.
const envManagerSocket = "env-manager.sock"

// EnvManagerSocket is where the env-manager of a user listens.
func EnvManagerSocket(c config.Config) (string, error) {
	dir, err := runtimedir.Dir(c.RuntimeDir, os.Geteuid())
	return filepath.Join(dir, envManagerSocket), err
}

func prometheusFile(c config.Config) string { return filepath.Join(c.LogDir, "prometheus.yml") }

func envManagerLog(c config.Config) string { return filepath.Join(c.LogDir, "env-manager.log") }

// site says whose services these are. A user has one set of them: their names and ports
// are the host's.
func site() string { return "uid-" + strconv.Itoa(os.Geteuid()) }

// build makes the parts, without moving anything.
func (e *envManager) build(ctx context.Context, o EnvManagerOptions) error {
	path, err := EnvManagerSocket(e.conf)
	if err != nil {
		return err
	}
	if e.socket, err = rpc.ListenUnix(path); err != nil {
		if task.CodeOf(err) == task.CodeConflict {
			return task.Errorf(task.CodeConflict, "an env-manager of yours runs already; it listens on %s", path)
		}
		return err
	}
	e.down.push("socket "+path, func(context.Context) error { return unlessClosed(e.socket.Close()) })
	if err := e.define(ctx, o.Environ); err != nil {
		return err
	}
	if e.engine, err = docker.New(engineOptions(e.conf.EnvManagerDockerHost(), o.Environ)); err != nil {
		return err
	}
	e.down.push("engine", func(context.Context) error { return e.engine.Close() })
	e.sup = envmgr.New(envmgr.Options{
		Engine: e.engine, Set: e.set, Site: site(), Network: e.conf.EnvManager.Network, Project: e.conf.EnvManager.ComposeProject,
		Policy: services.Policy(e.conf), Logger: e.log.With("component", "services"), MostStarts: e.conf.EnvManager.MaxStarts, Inside: !e.engine.Local(), EngineHost: e.engine.Machine(),
	})
	e.wants = &wants{Supervisor: e.sup, set: e.set, path: filepath.Join(e.conf.LogDir, "env-manager.json"), log: e.log}
	if e.meter, err = metrics.NewServices(version.String(), e.samples); err != nil {
		return err
	}
	return e.openDoors(ctx)
}

func unlessClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil // the server closes its listeners itself when it has run
	}
	return err
}

// define finds out what the services are.
func (e *envManager) define(ctx context.Context, environ []string) error {
	prometheus := prometheusFile(e.conf)
	if err := writePrometheus(prometheus, e.conf); err != nil {
		return err
	}
	var err error
	e.set, err = serviceSet(ctx, e.conf, environ, prometheus)
	return err
}

// serviceSet is what the configuration and the compose files that it names define.
func serviceSet(ctx context.Context, c config.Config, environ []string, prometheus string) (envmgr.Set, error) {
	var composed []envmgr.Definition
	if files := c.EnvManager.ComposeFiles; len(files) > 0 {
		loaded, err := compose.Load(ctx, compose.Options{Files: files, Env: environ, Project: c.EnvManager.ComposeProject, Network: c.EnvManager.Network})
		if err != nil {
			return envmgr.Set{}, task.Errorf(task.CodeInvalid, "%w", err)
		}
		composed = loaded.Services
	}
	owner := fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid())
	return services.Set(c, owner, prometheus, composed...)
}

// openDoors makes the servers, and binds what the configuration asks for.
func (e *envManager) openDoors(ctx context.Context) (err error) {
	wanted := func(addr, key string) doors.Wanted {
		return doors.Wanted{Addr: addr, Key: key, Source: e.conf.Source(key).String()}
	}
	e.doors, err = doors.Open(ctx, doors.Options{
		GRPC: wanted(e.conf.EnvManager.GRPCAddr, "env_manager.grpc_addr"), HTTP: wanted(e.conf.EnvManager.HTTPAddr, "env_manager.http_addr"),
		AccessDir: e.conf.AccessDir(), MaxConns: e.conf.Limits.MaxConnections, MetricsUIDs: e.conf.Access.MetricsAllowUIDs,
		Logger: e.log, Teardown: e.down.push,
	})
	if err != nil {
		return err
	}
	e.server, err = rpc.New(rpc.Options{
		Program: "env-manager", Services: []string{pb.EnvManagerService_ServiceDesc.ServiceName}, Healthy: func() bool { return true },
		Meter: e.meter, Logger: e.log.With("component", "api"), Token: e.doors.Token,
		Stopping:   task.Errorf(task.CodeUnavailable, "env-manager is stopping; services go on: connect again"),
		SlowReader: task.Errorf(task.CodeExhausted, "the stream was cut off, since its reader took nothing for long; open it again"),
	})
	if err != nil {
		return err
	}
	pb.RegisterEnvManagerServiceServer(e.server, envapi.New(envapi.Options{
		Supervisor: e.wants, Set: e.set, Engine: e.engine, Orchestrator: orchestratorCalls{conf: e.conf}, Logger: e.log,
	}))
	e.http, err = rpc.NewHTTP(e.server, e.routes(), rpc.HTTPOptions{
		ConnContext: access.ConnContext, Guard: e.doors.GuardHTTP(e.conf.Access.HTTPHosts), Peer: rpc.GatePeer,
	})
	return err
}

// serve runs all parts until ctx ends or one fails.
func (e *envManager) serve(ctx context.Context, o EnvManagerOptions) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := e.sup.Run(ctx); ctx.Err() == nil {
			return fmt.Errorf("care for services: %w", err)
		}
		return nil
	})
	g.Go(func() error { return e.server.Serve(ctx, append(e.doors.GRPC.Listeners, e.socket)...) })
	if len(e.doors.HTTP.Listeners) > 0 {
		g.Go(func() error { return e.http.Serve(ctx, e.doors.HTTP.Listeners...) })
	}
	g.Go(func() error {
		if err := e.wants.begin(ctx, o.Services); err != nil && ctx.Err() == nil {
			return err
		}
		if o.Ready != nil {
			o.Ready(e.socket.Addr().String())
		}
		e.tell(ctx, o.Said)
		return nil
	})
	return g.Wait()
}

// tell says how the start comes along, in the lines that scripts look for.
func (e *envManager) tell(ctx context.Context, said io.Writer) {
	connected := false
	told := map[string]envmgr.Phase{}
	for {
		snap, changed := e.sup.Latest()
		if !connected && snap.Away == "" && len(snap.Services) > 0 {
			connected = true
			fmt.Fprintln(said, "Docker connection successful")
		}
		settled, started, failed := connected, 0, 0
		for _, one := range snap.Services {
			if one.Want != envmgr.Up {
				continue
			}
			settled = settled && one.Settled()
			if before, ok := told[one.Name]; one.Settled() && (!ok || before != one.Phase) {
				told[one.Name] = one.Phase
				fmt.Fprintf(said, "%s: %s%s\n", one.Name, one.Phase, reasonOf(one))
			}
			if one.Ready() {
				started++
			} else {
				failed++
			}
		}
		if settled {
			fmt.Fprintf(said, "Startup complete: %d started, %d failed\n", started, failed)
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func reasonOf(one envmgr.Status) string {
	if one.Reason == "" {
		return ""
	}
	return " (" + one.Reason + ")"
}

// samples are the services, for metrics.
func (e *envManager) samples() []metrics.Service {
	snap, _ := e.sup.Latest()
	var out []metrics.Service
	for _, one := range snap.Services {
		s := metrics.Service{Name: one.Name, Phase: one.Phase.String(), Ready: one.Ready(), Wanted: one.Want == envmgr.Up, Ends: one.Ends}
		if !one.ReadyAt.IsZero() && !one.Started.IsZero() && !one.Found {
			s.ReadyAfter = one.ReadyAt.Sub(one.Started)
		}
		out = append(out, s)
	}
	return out
}
