package api

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// healthServer answers the standard health call with what Health says. Its
// Watch is not implemented, which the protocol allows: a watcher then takes the
// server for healthy for as long as it is there.
type healthServer struct {
	grpc_health_v1.UnimplementedHealthServer
	info func() Info
}

// Check tells whether tasks can be accepted.
func (h healthServer) Check(_ context.Context, req *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	switch req.GetService() {
	case "", pb.OrchestratorService_ServiceDesc.ServiceName:
	default:
		return nil, status.Error(codes.NotFound, "unknown service")
	}
	st := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if h.info().Healthy {
		st = grpc_health_v1.HealthCheckResponse_SERVING
	}
	return &grpc_health_v1.HealthCheckResponse{Status: st}, nil
}

// Health tells about the daemon.
func (s service) Health(context.Context, *pb.HealthRequest) (*pb.HealthResponse, error) {
	return healthTo(s.opts.Info(), s.opts.Queue.Counts()), nil
}
