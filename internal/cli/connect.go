package cli

import (
	"context"
	"os"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// client is a connection to the daemon. Errors of its calls are those of
// internal/task, or the context's.
type client struct {
	pb.OrchestratorServiceClient
	close func() error
	where string // for messages
}

// dial connects to the daemon of a workspace: over TCP when the environment
// names an address, else through its socket.
func dial(ctx context.Context, cfg config.Config) (*client, error) {
	target := api.Target{Socket: socketPath(cfg), Addr: cfg.GRPCAddr, Workspace: cfg.Workspace}
	c, err := api.Dial(ctx, target)
	if err != nil {
		return nil, err
	}
	where := target.Socket
	if target.Addr != "" {
		where = target.Addr
	}
	return &client{OrchestratorServiceClient: c, close: c.Close, where: where}, nil
}

// socketPath returns where the workspace's daemon listens: where the one that
// owns the queue says, else where one would that is started here and now. The
// two differ when the daemon was started with another XDG_RUNTIME_DIR.
func socketPath(cfg config.Config) string {
	if o := liveOwner(cfg.QueueDir); o != nil && o.Socket != "" {
		return o.Socket
	}
	return runtimedir.SocketPath(runtimedir.Path(cfg.RuntimeDir, os.Getuid()), cfg.QueueDir)
}

// startHint is the command that starts the workspace's daemon.
func startHint(cfg config.Config) string {
	return Program + " start --workspace " + shellQuote(cfg.Workspace)
}
