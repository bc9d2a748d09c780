package api

import (
	"context"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// Health tells about the daemon.
func (s service) Health(context.Context, *pb.HealthRequest) (*pb.HealthResponse, error) {
	return healthTo(s.opts.Info(), s.opts.Queue.Counts()), nil
}
