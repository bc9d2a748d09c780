package app

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/process"
	"github.com/dspy-agent/dspy-agent/internal/workers"
	"github.com/dspy-agent/dspy-agent/slurm"
)

// workersDir is where the folders of workers are.
func workersDir(c config.Config) string { return filepath.Join(c.QueueDir, "spool", "workers") }

func asWorkers(b engine.Backend) engine.Registration {
	return engine.Registration{Backend: b, NoImage: true}
}

// newWorkers makes the backend for workers.
func (a *App) newWorkers(environ []string) (err error) {
	a.auto = a.newAutoWorkers(environ)
	client := &slurm.Client{Env: slurm.Environment(environ)}
	a.workers, err = workers.New(workers.Options{
		Dir: workersDir(a.conf), QueueID: a.queue.ID(), Logger: a.log.With("component", "workers"), Confirm: a.queue.ConfirmLease,
		Remains: func(dir string) (workers.Remains, error) {
			return process.NewRemains(process.Options{
				QueueID: a.queue.ID(), TasksDir: a.tasksDir(), SpoolDir: dir, RuntimeDir: a.runtime,
				Logger: a.log.With("component", "workers"), ResultLimit: a.conf.Output.MaxResultBytes,
			})
		},
		Jobs:   client.Working,
		Door:   a.workerDoor,
		Answer: api.AnswerWorker,
		None:   a.noWorker,
	})
	if err != nil {
		return fmt.Errorf("set up the backend for workers: %w", err)
	}
	return nil
}

// noWorker is what tasks are told that wait where there is no worker.
func (a *App) noWorker() string {
	if a.auto == nil {
		return ""
	}
	return a.auto.none()
}

// leaseOwner is what the API hands workers to; nil where nobody hands out tasks.
func (a *App) leaseOwner() (lease.Owner, func(string) (string, bool)) {
	if a.workers == nil {
		return nil, nil
	}
	return a.workers, a.workers.Admit
}

// workerDoor is where workers of other hosts connect: the door for gRPC, if it has TLS.
func (a *App) workerDoor() (d workers.Door, ok bool) {
	door := a.doors.GRPC
	if a.doors.Cert == nil || len(door.Listeners) == 0 {
		return d, false
	}
	host, port, err := net.SplitHostPort(door.Addr)
	if err != nil {
		return d, false
	}
	if host = reachable(host, door.Wanted.Addr, a.doors.Cert.Hosts()); host == "" {
		return d, false
	}
	return workers.Door{Addr: net.JoinHostPort(host, port), Cert: a.doors.Cert.PEM()}, true
}

// reachable chooses the name under which other hosts reach a door: the configured one, if
// that is of one place, else the first of the certificate that is not of this host alone.
func reachable(bound, wanted string, certified []string) string {
	configured, _, err := net.SplitHostPort(wanted)
	if err != nil {
		configured = ""
	}
	for _, name := range append([]string{configured, bound}, certified...) {
		addr, err := netip.ParseAddr(name)
		switch {
		case name == "" || name == "localhost":
		case err == nil && (addr.IsUnspecified() || addr.IsLoopback()):
		default:
			return name
		}
	}
	return ""
}
