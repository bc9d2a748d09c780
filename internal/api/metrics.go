package api

import (
	"context"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// GetMetrics tells the numbers that dashboards ask for. A name that is not known
// is left out.
func (s service) GetMetrics(_ context.Context, req *pb.GetMetricsRequest) (*pb.MetricsResponse, error) {
	all := metrics(s.opts.Queue.Counts(), s.opts.Info())
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

// metrics computes every number. The names are a contract; pending, running,
// completed and failed are the four statuses of the wire.
func metrics(c task.Counts, info Info) map[string]float64 {
	byStatus := map[string]int{}
	active := 0
	for _, state := range task.States {
		n := c.Total(state)
		byStatus[state.Wire()] += n
		if state.Active() {
			active += n
		}
	}
	completed, failed := byStatus[task.WireCompleted], byStatus[task.WireFailed]
	rate := 0.0
	if ended := completed + failed; ended > 0 {
		rate = float64(failed) / float64(ended)
	}
	return map[string]float64{
		"env_queue_depth":   float64(c.Total(task.Pending)),
		"gpu_wait_seconds":  info.GPUWait.Seconds(),
		"tasks_pending":     float64(byStatus[task.WirePending]),
		"tasks_running":     float64(byStatus[task.WireRunning]),
		"tasks_completed":   float64(completed),
		"tasks_failed":      float64(failed),
		"task_error_rate":   rate,
		"concurrency_limit": float64(info.Limit),
		"inflight_tasks":    float64(active),
	}
}
