package cli

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (s *session) retryCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "retry", Usage: "try tasks again that failed, were cancelled or are lost", ArgsUsage: "ID...", Category: categorySubmit,
		UsageText: "dspy-agent retry [flags] ID...\ndspy-agent retry [flags] PREFIX/...\ndspy-agent retry [flags] --state STATE --class CLASS",
		Description: "--class alone means the tasks of the class that failed or are lost, and PREFIX/ those of which\n" +
			"the ids begin so. A task that waits for\n" +
			"another one that failed is refused: retry that one first. Oldest come first, so that\n" +
			"--state failed does it in the right order.",
		Flags: append(targetFlags(), jsonFlag()),
		Action: func(c *cli.Context) error {
			failed := []string{task.Failed.String(), task.Lost.String()}
			return s.bulk(c, verb{states: failed, would: wouldRetry, do: func(ctx context.Context, cl *client, id string) (verdict, error) {
				answer, err := cl.RetryTask(ctx, &pb.RetryTaskRequest{TaskId: id})
				if err == nil {
					s.remind(cl, "it is on disk, and nothing runs it yet")
				}
				return retried(answer.GetTask()), err
			}})
		},
	})
}

func retried(t *pb.TaskInfo) verdict {
	return verdict{info: t, said: fmt.Sprintf("is tried again, attempt %d", t.GetAttempt()), kind: "tried again"}
}

func wouldRetry(t *pb.TaskInfo) verdict {
	switch t.GetState() {
	case task.Failed.String(), task.Cancelled.String(), task.Lost.String():
		return verdict{info: t, said: fmt.Sprintf("is %s and would be tried again, attempt %d", t.GetState(), t.GetAttempt()+1), kind: "would try again"}
	}
	return verdict{info: t, said: fmt.Sprintf("is %s and would be refused", t.GetState()), kind: "would refuse"}
}
