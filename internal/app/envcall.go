package app

import (
	"context"
	"os"
	"path/filepath"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
)

// EnvManagerClient is a connection to the env-manager of this user. Its Server is the
// process that answers.
type EnvManagerClient struct{ *rpc.Client }

// DialEnvManager connects to the env-manager of this user, as rpc.Dial does: where none
// runs the error has CodeUnavailable and rpc.ErrNoDaemon.
func DialEnvManager(ctx context.Context, c config.Config) (*EnvManagerClient, error) {
	client, err := rpc.Dial(ctx, rpc.Target{
		Socket: filepath.Join(runtimedir.Path(c.RuntimeDir, os.Geteuid()), envManagerSocket), // a call makes no folder
		Wording: rpc.Wording{
			Absent:   "no env-manager is running; start it and the services with: dspy-agent services up",
			AddrFrom: "env_manager_addr",
			Killed:   "dspy-agent services up begins another: services go on",
			TooLarge: "name fewer services at once",
			Ended:    "env-manager has ended",
		},
	})
	if err != nil {
		return nil, err
	}
	return &EnvManagerClient{client}, nil
}
