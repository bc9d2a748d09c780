package api

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

// Supervisor is what is needed of envmgr.Supervisor.
type Supervisor interface {
	Up(ctx context.Context, names ...string) error
	Down(ctx context.Context, names ...string) (ended []string, err error)
	Restart(ctx context.Context, names ...string) error
	Latest() (envmgr.Snapshot, <-chan struct{})
	Wait(ctx context.Context, done func(envmgr.Snapshot) bool) (envmgr.Snapshot, error)
}

// Engine is what is needed of a container engine beside the Supervisor.
type Engine interface {
	Usage(ctx context.Context, name string) (docker.Usage, error)
	Logs(ctx context.Context, name string, o docker.LogOptions, take func(docker.Entry) error, idle func() error) error
	Pull(ctx context.Context, ref string, progress func(docker.Progress)) error
	Image(ctx context.Context, ref string) (docker.Image, error)
}

// Orchestrator is what is asked of the orchestrator, where there is one.
type Orchestrator interface {
	Execute(ctx context.Context, req *pb.ExecuteTaskRequest) (*pb.ExecuteTaskResponse, error)
	Availability(ctx context.Context, class string) (*pb.ResourceAvailabilityResponse, error)
}

// Options are what a Service needs.
type Options struct {
	Supervisor   Supervisor
	Set          envmgr.Set
	Engine       Engine
	Orchestrator Orchestrator // nil = there is none
	Logger       *slog.Logger
	Now          func() time.Time
}

// Service answers EnvManagerService.
type Service struct {
	pb.UnimplementedEnvManagerServiceServer
	Options
	usage *usage
}

// New makes a Service.
func New(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Service{Options: o, usage: newUsage(o.Engine, o.Now)}
}

// known resolves the names of a request; none = all.
func (s *Service) known(names []string) ([]string, error) {
	if len(names) == 0 {
		return s.Set.Names(), nil
	}
	if err := s.Set.Known(names); err != nil {
		return nil, task.Errorf(task.CodeNotFound, "%w", err)
	}
	return names, nil
}

// coded gives an error of the Supervisor or the engine its code.
func coded(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, envmgr.ErrUnknownService), errors.Is(err, docker.ErrNoContainer), errors.Is(err, docker.ErrNoImage):
		return task.Errorf(task.CodeNotFound, "%w", err)
	case errors.Is(err, envmgr.ErrOver), errors.Is(err, docker.ErrAway):
		return task.Errorf(task.CodeUnavailable, "%w", err)
	default:
		return err
	}
}

// errNoOrchestrator is what is answered where there is none to ask.
var errNoOrchestrator = task.Errorf(task.CodeUnavailable, "this env-manager has no orchestrator to ask; call the orchestrator's own API")

// ExecuteTask runs a task through the orchestrator, and waits for it.
func (s *Service) ExecuteTask(ctx context.Context, req *pb.ExecuteTaskRequest) (*pb.ExecuteTaskResponse, error) {
	if s.Orchestrator == nil {
		return nil, errNoOrchestrator
	}
	return s.Orchestrator.Execute(ctx, req)
}

// GetResourceAvailability tells what the orchestrator has free for a class.
func (s *Service) GetResourceAvailability(ctx context.Context, req *pb.GetResourceAvailabilityRequest) (*pb.ResourceAvailabilityResponse, error) {
	if s.Orchestrator == nil {
		return nil, errNoOrchestrator
	}
	return s.Orchestrator.Availability(ctx, req.GetWorkloadClass())
}
