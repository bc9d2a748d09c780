package app

import (
	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/metrics"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/version"
)

var (
	_ engine.Meter = (*metrics.Metrics)(nil)
	_ api.Metrics  = (*metrics.Metrics)(nil)
)

// newMetrics makes the numbers of this process. They are there before the queue,
// which tells them of its commits, and nobody asks for them before it is open.
func (a *App) newMetrics() (*metrics.Metrics, error) {
	var classes []string
	for name, c := range a.conf.Classes {
		if c.AliasOf == "" {
			classes = append(classes, name)
		}
	}
	return metrics.New(metrics.Options{
		Classes: classes, Version: version.String(),
		Counts: func() task.Counts { return a.queue.Counts() },
		Paused: func() map[string]task.Pause { return a.queue.Paused() },
		Machine: func() metrics.Machine {
			return metrics.Machine{Limit: int(a.capacity.CPUMilli / 1000), GPUWait: a.gpuWait()}
		},
		GPUs: a.verdicts,
	})
}
