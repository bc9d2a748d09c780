package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// Where the queue belongs to a process on another host, nobody can be called. But what is
// asked for can be left in the drop folder, on disk, for the owner to take.

// submitElsewhere leaves a task there, if that is why it could not be submitted.
func (s *session) submitElsewhere(c *cli.Context, cfg config.Config, req *pb.SubmitTaskRequest, err error) error {
	away, ok := errors.AsType[*elsewhereError](err)
	if !ok {
		return err
	}
	if c.Bool("wait") || c.Bool("follow") {
		return task.Errorf(task.CodeUnavailable, "%w. Without --wait and --follow the task is left in its drop folder, for that process to take", away)
	}
	if req.GetId() == "" {
		if req.Id, err = s.ids.Next(s.now()); err != nil {
			return err
		}
	}
	if err := app.PutOrder(cfg, req); err != nil {
		return fmt.Errorf("%w; and it could not be left in the drop folder: %w", away, err)
	}
	if c.Bool("json") {
		if err := writeJSON(s.out, jsonLeft{ID: req.GetId(), Owner: away.owner.Host, PID: away.owner.PID}); err != nil {
			return err
		}
	} else {
		s.out.printf("%s\n", req.GetId())
	}
	s.err.printf("note: the queue belongs to pid %d on host %s; the task is on disk in its drop folder, and is accepted when that process takes it; if that host is gone for good: %s --take-over\n",
		away.owner.PID, oneLine(away.owner.Host), away.start)
	return nil
}

// cancelElsewhere leaves cancels there. Only ids can be meant: which tasks are in a state
// is for the owner to say.
func (s *session) cancelElsewhere(c *cli.Context, cfg config.Config, err error) error {
	away, ok := errors.AsType[*elsewhereError](err)
	ids := c.Args().Slice()
	if !ok || len(ids) == 0 {
		return err
	}
	for _, id := range ids {
		if err := app.PutCancel(cfg, id, fmt.Sprintf("uid %d on another host", os.Getuid()), c.String("reason")); err != nil {
			return err
		}
		s.out.printf("%s is to be cancelled by pid %d on host %s, which has the queue\n", id, away.owner.PID, oneLine(away.owner.Host))
	}
	return nil
}
