package api

import (
	"context"
	"fmt"
	"net"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/shellword"
	orchestratorv1 "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// What errors.Is finds in errors of a Client.
var (
	ErrNoDaemon    = rpc.ErrNoDaemon
	ErrSilent      = rpc.ErrSilent
	ErrSuspended   = rpc.ErrSuspended
	ErrNothingDone = rpc.ErrNothingDone
)

// Target says where the orchestrator is, as rpc.Target does.
type Target struct {
	Socket    string
	Addr      string
	Conn      net.Conn
	Cert      *access.Certificate
	Token     access.Token
	Word      string
	Workspace string // for messages
}

// Client talks to the orchestrator. Its methods are those of the service, and those of
// rpc.Client, whose errors it has.
type Client struct {
	orchestratorv1.OrchestratorServiceClient
	*rpc.Client
}

// Dial connects to the orchestrator, as rpc.Dial does.
func Dial(ctx context.Context, t Target) (*Client, error) {
	c, err := rpc.Dial(ctx, rpc.Target{
		Socket: t.Socket, Addr: t.Addr, Conn: t.Conn, Cert: t.Cert, Token: t.Token, Word: t.Word,
		Wording: rpc.Wording{
			Absent: noDaemonText(t.Workspace), AddrFrom: "ORCHESTRATOR_GRPC_ADDR",
			Killed:   "start begins another: running tasks go on",
			TooLarge: "send fewer tasks at once",
			Ended:    "the queue was closed",
		},
	})
	if err != nil {
		return nil, err
	}
	return &Client{orchestratorv1.NewOrchestratorServiceClient(c.Conn()), c}, nil
}

func noDaemonText(workspace string) string {
	if workspace == "" {
		return ErrNoDaemon.Error() + "; start one with: dspy-agent start"
	}
	return fmt.Sprintf("%s for workspace %s; start one with: dspy-agent start --workspace %s", ErrNoDaemon, workspace, shellword.Quote(workspace))
}
