package cli

import (
	"context"

	"github.com/urfave/cli/v2"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (s *session) whyCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "why", Usage: "say in one sentence why a task is where it is", ArgsUsage: "ID", Category: categorySubmit,
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			id, err := oneID(c)
			if err != nil {
				return err
			}
			return s.withClient(c, func(ctx context.Context, cl *client) error {
				answer, err := byID(ctx, s, cl, id, func(id string) (*pb.ExplainTaskResponse, error) {
					return cl.ExplainTask(ctx, &pb.ExplainTaskRequest{TaskId: id})
				})
				if err != nil {
					return err
				}
				if c.Bool("json") {
					j := taskJSON(answer.GetTask(), s.now())
					j.Spec, j.Reason = nil, answer.GetReason()
					return writeJSON(s.out, j)
				}
				s.out.printf("%s\n", oneLine(answer.GetReason()))
				return nil
			})
		},
	})
}
