package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// client is a connection to the daemon. Errors of its calls are those of
// internal/task, or the context's.
type client struct {
	pb.OrchestratorServiceClient
	close func() error
	// For messages: where it leads, and which queue that is.
	where, workspace string

	// nobody says that no daemon runs and what to do about it, where the queue is open
	// in this process; "" = a daemon answers.
	nobody   string
	reminder sync.Once // of remind

	damaged []string // tasks that the last listing could not tell of
}

// dial connects to the daemon of a workspace: over TCP when the environment
// names an address, else through its socket. Unless the answers are wanted raw, as
// for JSON, their text is fit to be printed.
func dial(ctx context.Context, cfg config.Config, raw bool) (*client, error) {
	target := api.Target{Addr: cfg.GRPCAddr, Workspace: cfg.Workspace}
	if target.Addr == "" {
		target.Socket = socketPath(cfg)
	}
	// What is wrong with the secrets is of no concern to a call on loopback.
	if plan, err := access.ParsePlan(target.Addr, true); err == nil && plan.TLS {
		have, err := clientSecrets(cfg)
		if err != nil {
			return nil, err
		}
		if have.cert == nil {
			return nil, noSecrets(cfg)
		}
		target.Cert, target.Token = have.cert, have.token
	}
	c, err := api.Dial(ctx, target)
	if err != nil {
		return nil, ownerNoted(cfg, err)
	}
	cl := newClient(cfg, c, raw)
	if cl.where = target.Socket; target.Addr != "" {
		cl.where = target.Addr
	}
	return cl, nil
}

// noSecrets says what a client lacks for an address beyond loopback. They are the daemon's:
// making some here would be of no use.
func noSecrets(cfg config.Config) error {
	dir := cfg.AccessDir()
	if dir == "" {
		dir = "a folder that access.dir names"
	}
	return task.Errorf(task.CodeInvalid,
		"%s, which %s names, is called with TLS and a token, and one of them is not here: copy cert.pem and token from the daemon's host, where %s access show says where they are, to %s (mode 0600, the folder 0700); docs/other-hosts.md",
		cfg.GRPCAddr, envGRPCAddr, Program, oneLine(dir))
}

func newClient(cfg config.Config, c *api.Client, raw bool) *client {
	conn := c.Conn()
	if !raw {
		conn = defused{conn}
	}
	return &client{OrchestratorServiceClient: pb.NewOrchestratorServiceClient(conn), close: c.Close, workspace: cfg.String()}
}

// ownerNoted adds to the error that no daemon was found that one may run elsewhere:
// the file that would say where is of no use.
func ownerNoted(cfg config.Config, err error) error {
	if cfg.GRPCAddr != "" || !errors.Is(err, api.ErrNoDaemon) {
		return err // the folder says nothing of an address
	}
	if _, gone := os.Stat(cfg.Workspace); errors.Is(gone, fs.ErrNotExist) { // start would refuse it
		return &task.Error{Code: task.CodeUnavailable, Message: fmt.Sprintf("%s for %s: that folder does not exist", api.ErrNoDaemon, cfg), Err: err}
	}
	_, damaged := app.WhoOwns(cfg.QueueDir)
	switch {
	case errors.Is(damaged, fs.ErrPermission):
		return forbidden(damaged)
	case damaged != nil:
		return task.Errorf(task.CodeUnavailable, "%w (%s; %s stop says whether one runs)", err, oneLine(damaged.Error()), Program)
	}
	return err
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
	return Program + " start " + pasteable(cfg.Args())
}
