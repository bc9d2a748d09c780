package rpc

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// healthServer answers the standard health calls with what Options.Healthy says.
type healthServer struct {
	grpc_health_v1.UnimplementedHealthServer
	*Server
}

type healthStatus = grpc_health_v1.HealthCheckResponse_ServingStatus

// status tells whether the services can do their work.
func (h healthServer) status() healthStatus {
	if h.opts.Healthy() {
		return grpc_health_v1.HealthCheckResponse_SERVING
	}
	return grpc_health_v1.HealthCheckResponse_NOT_SERVING
}

// knows says whether a service is one of ours; "" is the server as a whole.
func (h healthServer) knows(name string) bool {
	return name == "" || slices.Contains(h.opts.Services, name)
}

// Check tells it now.
func (h healthServer) Check(_ context.Context, req *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	if !h.knows(req.GetService()) {
		return nil, task.Errorf(task.CodeNotFound, "unknown service %q", req.GetService())
	}
	return &grpc_health_v1.HealthCheckResponse{Status: h.status()}, nil
}

// Watch tells it now and whenever it changes, until the server stops. A service
// that is unknown may be one of a later release, and so is no error
// (grpc.health.v1): it stays unknown.
func (h healthServer) Watch(req *grpc_health_v1.HealthCheckRequest, out grpc_health_v1.Health_WatchServer) error {
	ctx, cancel := h.UntilStop(out.Context())
	defer cancel()
	current := h.status
	if !h.knows(req.GetService()) {
		current = func() healthStatus { return grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN }
	}
	return h.Guarded(out.Context(), func(g *Guard) error {
		look := time.NewTicker(h.opts.HealthInterval)
		defer look.Stop()
		told := healthStatus(-1)
		for {
			if now := current(); now != told {
				if err := Send(g, out, &grpc_health_v1.HealthCheckResponse{Status: now}); err != nil {
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
