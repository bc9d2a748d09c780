package cli

import (
	"context"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/doctor"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/version"
)

// patient is what doctor examines: the world as the other commands see it.
func (s *session) patient(c *cli.Context) doctor.Patient {
	return doctor.Patient{
		UID: os.Geteuid(), Environ: s.env.Environ, Now: s.now, Version: version.String(),
		SupervisorSocket: s.env.SupervisorSocket,
		Load: func() doctor.Loaded {
			given, _ := s.given(c) // what hangs is found by the checks
			return s.loadMeant(c, loadAnyway(given))
		},
		Orchestrator: s.findDaemon,
		Start:        startHint,
		Owner:        ownerForDoctor,
		Holder:       app.HolderPID,
		Health:       s.healthForDoctor,
		DropFolder:   app.DropFolderTrouble,
		Database:     app.LookAtDatabase,
		Rejected:     app.RejectedFiles,
	}
}

// loadAnyway returns the configuration; where that cannot be used, the one that holds
// without its files.
func loadAnyway(given config.Given) doctor.Loaded {
	cfg, err := config.Load(given)
	if err == nil {
		return doctor.Loaded{Config: cfg, Usable: true}
	}
	lookup := given.Lookup
	given.ConfigFlag = ""
	given.Lookup = func(name string) string {
		if name == "DSPY_AGENT_CONFIG" || name == "ENV_MANAGER_CONFIG" {
			return os.DevNull // which is no file
		}
		return lookup(name)
	}
	cfg, bare := config.Load(given)
	return doctor.Loaded{Config: cfg, Usable: bare == nil, Err: err}
}

func ownerForDoctor(queueDir string) (*doctor.Owner, error) {
	o, err := app.WhoOwns(queueDir)
	if err != nil || o == nil {
		return nil, err
	}
	return &doctor.Owner{
		Host: o.Host, BootID: o.BootID, PID: o.PID, StartTicks: o.StartTicks, StartedAt: o.StartedAt,
		Socket: o.Socket, GRPC: o.GRPC, HTTP: o.HTTP,
	}, nil
}

func (s *session) healthForDoctor(ctx context.Context, cfg config.Config) (doctor.Health, error) {
	h, err := s.health(ctx, cfg)
	if err != nil {
		return doctor.Health{}, err
	}
	return doctor.Health{
		PID: int(h.GetPid()), Version: h.GetVersion(), Healthy: h.GetHealthy(), Parts: h.GetServices(),
		StartedAt: task.Instant(h.GetStartedAtNs()).Time(), LogFile: h.GetLogFile(),
		Stale: configChanged(cfg, h),
	}, nil
}

// loadMeant turns to the workspace of the daemon that commands call, where an address in
// the environment leads to another one of this host.
func (s *session) loadMeant(c *cli.Context, l doctor.Loaded) doctor.Loaded {
	if !l.Usable || l.Config.GRPCAddr == "" {
		return l
	}
	ctx, cancel := context.WithTimeout(c.Context, time.Second) // the checks have to begin
	defer cancel()
	addr := l.Config.GRPCAddr
	if there, other, err := s.atAddress(ctx, l.Config); err == nil && other != nil {
		l.Config = there
		l.Config.GRPCAddr = addr // the same daemon, and the checks tell of it
	}
	return l
}
