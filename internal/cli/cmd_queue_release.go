package cli

import (
	"context"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// releaseAtOnce is how many releases share a commit of the daemon.
const releaseAtOnce = 64

func (s *session) queueRelease(c *cli.Context, args []string) error {
	switch all := c.Bool("all"); {
	case all && len(args) > 0:
		return usagef("queue release takes ids, or --all, not both")
	case !all && len(args) == 0:
		return usagef("queue release takes the ids of one or more tasks, or --all")
	case slices.Contains(args, ""):
		return usagef("queue release was given an empty id; is a variable of the shell not set?")
	}
	cfg, err := s.configToCall(c)
	if err != nil {
		return err
	}
	return s.withClient(c, writes, func(ctx context.Context, cl *client) error {
		return s.release(ctx, cl, cfg, c.Bool("json"), targets{ids: eachOnce(args)})
	})
}

func (s *session) release(ctx context.Context, cl *client, cfg config.Config, json bool, want targets) error {
	if len(want.ids) == 0 {
		want.chosen = &selection{states: []string{task.Pending.String()}}
	}
	tasks, err := want.resolve(ctx, cl)
	if err != nil {
		return err
	}
	if want.chosen != nil {
		tasks = slices.DeleteFunc(tasks, func(t *pb.TaskInfo) bool { return t.GetHeld() == "" })
	}
	r := bulkRun{s: s, cfg: cfg, json: json, quiet: want.chosen != nil && s.out.tty}
	release := verb{do: func(ctx context.Context, cl *client, id string) (verdict, error) {
		answer, err := cl.ReleaseTask(ctx, &pb.ReleaseTaskRequest{TaskId: id})
		return released(answer), err
	}}
	for chunk := range slices.Chunk(tasks, releaseAtOnce) {
		if err := r.chunk(ctx, cl, release, chunk); err != nil {
			r.summary(targets{})
			return err
		}
	}
	switch {
	case len(tasks) == 0:
		s.err.printf("no task is held in %s\n", cfg)
	case want.many():
		r.summary(want)
	}
	if r.worst != exitDone {
		return &exitError{code: r.worst}
	}
	return nil
}

func released(a *pb.ReleaseTaskResponse) verdict {
	v := verdict{info: a.GetTask(), said: "was let go", kind: "let go"}
	if a.GetAlready() {
		v.said, v.kind = "is not held", "not held"
	}
	return v
}
