package cli

import (
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/version"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (s *session) versionCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "version", Usage: "show which build this is", Category: categoryShell,
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			return s.version(c.Bool("json"))
		},
	})
}

func (s *session) version(asJSON bool) error {
	v := jsonVersion{
		Version: version.String(), Commit: version.Commit, Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Protocol: pb.OrchestratorService_ServiceDesc.ServiceName,
	}
	if asJSON {
		return writeJSON(s.out, v)
	}
	if v.Commit == "" {
		v.Commit = "unknown"
	}
	s.out.printf("%s %s\ncommit    %s\ngo        %s %s\nprotocol  %s\n", Program, v.Version, v.Commit, v.Go, v.Platform, v.Protocol)
	return nil
}
