package cli

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (s *session) retryCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "retry", Usage: "try tasks again that failed, were cancelled or are lost", ArgsUsage: "ID...", Category: categorySubmit,
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			return s.forEach(c, func(ctx context.Context, cl *client, id string) (*pb.TaskInfo, string, error) {
				answer, err := cl.RetryTask(ctx, &pb.RetryTaskRequest{TaskId: id})
				return answer.GetTask(), fmt.Sprintf("is tried again, attempt %d", answer.GetTask().GetAttempt()), err
			})
		},
	})
}
