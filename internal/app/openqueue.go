package app

import (
	"context"
	"time"

	"github.com/dspy-agent/dspy-agent/queue"
)

// commandPatience is how long a daemon waits for one and the same command that has the queue.
// A command has it for one call, and lets go of it as soon as the machine lets it run.
const commandPatience = 30 * time.Second

// openQueue opens the queue for this process. A daemon waits for commands that have it, but for
// one that is suspended: nobody knows when that goes on. A drain has the patience of its caller.
func (a *App) openQueue(ctx context.Context, opts queue.Options) (*queue.Queue, error) {
	var holder Holder
	var since time.Time
	for {
		q, err := queue.Open(ctx, opts)
		busy, ok := BusyOf(err)
		if !ok || opts.Role != queue.RoleDaemon || !busy.Holder.Command || busy.Holder.Suspended || busy.Holder.Elsewhere {
			return q, err
		}
		if since.IsZero() || busy.Holder != holder {
			holder, since = busy.Holder, time.Now()
			a.log.Info("waiting for a command that has the queue", "pid", holder.PID, "for", commandPatience)
		}
		if time.Since(since) >= commandPatience || ctx.Err() != nil {
			return nil, err
		}
	}
}
