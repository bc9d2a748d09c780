package api

import (
	"context"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// GetMetrics tells the numbers that dashboards ask for. A name that is not known
// is left out.
func (s service) GetMetrics(_ context.Context, req *pb.GetMetricsRequest) (*pb.MetricsResponse, error) {
	all := s.opts.Metrics.Values()
	reply := &pb.MetricsResponse{Metrics: all, Timestamp: s.opts.Now().Unix()}
	if names := req.GetMetricNames(); len(names) > 0 {
		reply.Metrics = make(map[string]float64, len(names))
		for _, name := range names {
			if v, ok := all[name]; ok {
				reply.Metrics[name] = v
			}
		}
	}
	return reply, nil
}
