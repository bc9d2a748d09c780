package cli

import (
	"context"
	"errors"
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

// socketPath returns where the workspace's daemon listens.
func socketPath(cfg config.Config) string {
	return runtimedir.SocketPath(runtimeDir(cfg), cfg.QueueDir)
}

// runtimeDir looks where the daemon looked: below XDG_RUNTIME_DIR, or in /tmp
// when that is gone. It makes nothing.
func runtimeDir(cfg config.Config) string {
	if cfg.RuntimeDir != "" {
		if _, err := os.Stat(cfg.RuntimeDir); errors.Is(err, os.ErrNotExist) {
			return runtimedir.Path("", os.Getuid())
		}
	}
	return runtimedir.Path(cfg.RuntimeDir, os.Getuid())
}

// startHint is the command that starts the workspace's daemon.
func startHint(cfg config.Config) string {
	return Program + " start --workspace " + shellQuote(cfg.Workspace)
}
