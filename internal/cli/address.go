package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/shellword"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// An address in the environment is for programs, which know nothing of workspaces. A shell
// in which it is exported has it in every folder, so that commands may call another daemon
// than that of the folder: all of them the same one, stop and doctor included, and each
// says so. --workspace wins over it.

const envGRPCAddr = "ORCHESTRATOR_GRPC_ADDR"

// noteAddress says whose daemon answers, if it is not the one of this folder. Of one on
// another host that is no news, since nobody has its address by chance.
func (s *session) noteAddress(ctx context.Context, cfg config.Config, cl *client) {
	if cfg.GRPCAddr == "" || !onLoopback(cfg.GRPCAddr) && !holdsQueue(cfg.QueueDir) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	if h, err := cl.Health(ctx, &pb.HealthRequest{}); err == nil {
		s.tellAddress(cfg, h)
	}
}

func (s *session) tellAddress(cfg config.Config, h *pb.HealthResponse) {
	if h.GetWorkspace() != cfg.Workspace {
		s.err.printf("note: %s=%s leads to the daemon of workspace %s; for that of this folder, unset it or give --workspace %s\n",
			envGRPCAddr, cfg.GRPCAddr, oneLine(h.GetWorkspace()), shellword.Quote(cfg.Workspace))
	}
}

// onLoopback says whether an address is one of this host alone.
func onLoopback(addr string) bool {
	hostname, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(hostname)
	return hostname == "" || hostname == "localhost" || err == nil && (ip.IsLoopback() || ip.IsUnspecified())
}

// atAddress returns the configuration of the workspace whose daemon the address in the
// environment leads to, with who that is; cfg and nil where it is that of cfg, or where
// nobody is at the address.
func (s *session) atAddress(ctx context.Context, cfg config.Config) (config.Config, *pb.HealthResponse, error) {
	if cfg.GRPCAddr == "" {
		return cfg, nil, nil
	}
	h, err := s.health(ctx, cfg)
	switch {
	case errors.Is(err, api.ErrNoDaemon), err != nil && s.ownDoor(cfg):
		return cfg, nil, nil
	case err != nil:
		return cfg, nil, addressNoted(cfg, err)
	case h.GetWorkspace() == cfg.Workspace:
		return cfg, nil, nil
	}
	if o := liveOwner(h.GetQueueDir()); o == nil || o.PID != int(h.GetPid()) {
		return cfg, nil, addressNoted(cfg, task.Errorf(task.CodeUnavailable,
			"the daemon at %s, which %s names, is not of this host; run the command there", cfg.GRPCAddr, envGRPCAddr))
	}
	given := config.Given{WorkspaceFlag: h.GetWorkspace(), Cwd: s.env.Cwd, Lookup: s.env.getenv}
	if cfg.FileRead() {
		given.ConfigFlag = cfg.File
	}
	there, err := config.LoadReadable(given)
	if _, is := errors.AsType[*config.InvalidError](err); is && s.mistaken { // which was told
		err = nil
	}
	there.QueueDir = h.GetQueueDir() // which may come of the environment that the daemon was started in
	return there, h, err
}

// ownDoor says whether the address is where the daemon of this folder listens.
func (s *session) ownDoor(cfg config.Config) bool {
	o := liveOwner(cfg.QueueDir)
	return o != nil && o.GRPC != "" && o.GRPC == cfg.GRPCAddr
}

// addressNoted adds to the error of a call to the address what leads to the daemon of this
// folder, if one runs.
func addressNoted(cfg config.Config, err error) error {
	if o := liveOwner(cfg.QueueDir); cfg.GRPCAddr == "" || o == nil || o.Socket == "" {
		return err
	}
	return fmt.Errorf("%w; the daemon of this folder is another: unset %s, or give --workspace %s", err, envGRPCAddr, shellword.Quote(cfg.Workspace))
}

// tellAddressHeld says, where a daemon could not have the address that the environment names
// since another of ours has it, what that means for what is typed next.
func (s *session) tellAddressHeld(ctx context.Context, cfg config.Config, has string) bool {
	if cfg.Source("grpc_addr").Name != envGRPCAddr {
		return false
	}
	there := cfg
	there.GRPCAddr = cfg.GRPCListen
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	h, err := s.health(ctx, there)
	if err != nil || h.GetWorkspace() == cfg.Workspace {
		return false
	}
	s.err.printf("note: %s, which %s names, is held by your daemon of workspace %s (pid %d); gRPC is served at %s instead. "+
		"As long as the variable is set, commands without --workspace call that other daemon: unset %s\n",
		cfg.GRPCListen, envGRPCAddr, oneLine(h.GetWorkspace()), h.GetPid(), has, envGRPCAddr)
	return true
}
