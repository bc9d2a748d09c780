package api

import (
	"context"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// healthServer answers the standard health calls with what Health says.
type healthServer struct {
	grpc_health_v1.UnimplementedHealthServer
	*Server
}

type healthStatus = grpc_health_v1.HealthCheckResponse_ServingStatus

// status tells whether tasks can be accepted.
func (h healthServer) status() healthStatus {
	if h.opts.Info().Healthy {
		return grpc_health_v1.HealthCheckResponse_SERVING
	}
	return grpc_health_v1.HealthCheckResponse_NOT_SERVING
}

// knowsService says whether a service is one of ours; "" is the server as a whole.
func knowsService(name string) bool {
	return name == "" || name == pb.OrchestratorService_ServiceDesc.ServiceName
}

// Check tells whether tasks can be accepted.
func (h healthServer) Check(_ context.Context, req *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	if !knowsService(req.GetService()) {
		return nil, task.Errorf(task.CodeNotFound, "unknown service %q", req.GetService())
	}
	return &grpc_health_v1.HealthCheckResponse{Status: h.status()}, nil
}

// Watch tells it now and whenever it changes, until the server stops. A service
// that is unknown may be one of a later release, and so is no error
// (grpc.health.v1): it stays unknown.
func (h healthServer) Watch(req *grpc_health_v1.HealthCheckRequest, out grpc_health_v1.Health_WatchServer) error {
	ctx, cancel := h.untilStop(out.Context())
	defer cancel()
	current := h.status
	if !knowsService(req.GetService()) {
		current = func() healthStatus { return grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN }
	}
	return h.guarded(out.Context(), func(g *guard) error {
		look := time.NewTicker(h.opts.HealthInterval)
		defer look.Stop()
		told := healthStatus(-1)
		for {
			if now := current(); now != told {
				if err := send(g, out, &grpc_health_v1.HealthCheckResponse{Status: now}); err != nil {
					return err
				}
				told = now
			}
			select {
			case <-look.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
}

// Health tells about the daemon.
func (s service) Health(context.Context, *pb.HealthRequest) (*pb.HealthResponse, error) {
	return healthTo(s.opts.Info(), s.opts.Queue.Counts()), nil
}
