package cli

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (s *session) cancelCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "cancel", Usage: "cancel tasks that wait or run", ArgsUsage: "ID...", Category: categorySubmit,
		Description: "A task that runs is asked to end (SIGTERM), and made to after its grace; wait tells when it has.",
		Flags:       []cli.Flag{&cli.StringFlag{Name: "reason", Usage: "`TEXT` that is kept with the task"}, jsonFlag()},
		Action: func(c *cli.Context) error {
			reason := c.String("reason")
			return s.forEach(c, func(ctx context.Context, cl *client, id string) (*pb.TaskInfo, string, error) {
				answer, err := cl.CancelTask(ctx, &pb.CancelTaskRequest{TaskId: id, Reason: reason})
				return answer.GetTask(), cancelWord(answer.GetTask()), err
			})
		},
	})
}

func cancelWord(t *pb.TaskInfo) string {
	switch {
	case t.GetState() == task.Cancelled.String():
		return "cancelled"
	case ended(t):
		return "has " + t.GetState() + " already"
	default:
		return "is being cancelled"
	}
}

// forEach does something to every task named, one line each. It goes on after a
// failure, and ends with the worst exit code.
func (s *session) forEach(c *cli.Context, do func(context.Context, *client, string) (*pb.TaskInfo, string, error)) error {
	ids, err := someIDs(c)
	if err != nil {
		return err
	}
	return s.withClient(c, func(ctx context.Context, cl *client) error {
		worst := exitDone
		for _, id := range ids {
			info, said, err := do(ctx, cl, id)
			switch {
			case interrupted(ctx):
				return err
			case err != nil:
				worst = max(worst, exitCode(ctx, err))
				s.err.printf("%s: %s\n", id, err.Error())
			case c.Bool("json"):
				j := taskJSON(info, s.now())
				j.Spec = nil
				if err := writeJSONLine(s.out, j); err != nil {
					return err
				}
			default:
				s.out.printf("%s %s\n", id, said)
			}
		}
		if worst != exitDone {
			return &exitError{code: worst}
		}
		return nil
	})
}
