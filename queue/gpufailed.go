package queue

import (
	"context"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// GPUFailed adds to the event log that a GPU has become unhealthy, or is gone, and why.
func (q *Queue) GPUFailed(ctx context.Context, uuid, why string) error {
	return q.write(ctx, 1, func(b *batch) error {
		return b.log(task.Record{Kind: task.EventGPUFailed, ID: text(uuid), Text: text(why)})
	})
}
