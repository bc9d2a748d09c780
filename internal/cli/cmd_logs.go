package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (s *session) logsCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "logs", Usage: "print the output of a task", ArgsUsage: "[ID]", Category: categorySubmit,
		Description: "Prints what the task wrote, byte by byte. Without an id: of the newest task that has begun.\n" +
			"Ctrl-C is how --follow may be ended early: exit code 0, and the task goes on.",
		Flags: []cli.Flag{
			boolFlag("follow", "go on printing until the task ends", "f"),
			&cli.IntFlag{Name: "tail", Aliases: []string{"n"}, Usage: "only the last `N` lines; 0 for all", DefaultText: "all"},
			boolFlag("stdout", "only the standard output, of a container"),
			boolFlag("stderr", "only the standard error, of a container"),
			&cli.IntFlag{Name: "attempt", Usage: "of attempt `N`", DefaultText: "the current one"},
		},
		Action: s.logs,
	})
}

func (s *session) logs(c *cli.Context) error {
	if c.NArg() > 1 {
		return usagef("logs takes the id of one task, or none for the newest")
	}
	if c.NArg() == 1 && c.Args().First() == "" { // it would show the newest, of whatever else
		return usagef("logs was given an empty id; is a variable of the shell not set?")
	}
	if err := noPrefix(c); err != nil {
		return err
	}
	if c.Int("tail") < 0 || c.Int("attempt") < 0 {
		return usagef("--tail and --attempt are numbers from 0 up")
	}
	stream := ""
	switch {
	case c.Bool("stdout") && c.Bool("stderr"):
		return usagef("--stdout and --stderr are both given; without either, both are printed")
	case c.Bool("stdout"):
		stream = "stdout"
	case c.Bool("stderr"):
		stream = "stderr"
	}
	req := &pb.StreamLogsRequest{
		Stream: stream,
		TaskId: c.Args().First(), Follow: c.Bool("follow"),
		Tail: int32(min(c.Int("tail"), 1<<30)), Attempt: int32(min(c.Int("attempt"), 1<<30)),
	}
	return s.withClient(c, reads, func(ctx context.Context, cl *client) error {
		copyAll := s.copyOutput
		if cl.unattended() && req.GetFollow() {
			copyAll = s.copyUnattended
		}
		_, err := byID(ctx, s, cl, req.GetTaskId(), func(id string) (struct{}, error) {
			req.TaskId = id
			if id != "" {
				if err := s.tellAttempt(ctx, cl, req); err != nil {
					return struct{}{}, err
				}
			}
			return struct{}{}, noOutput(id, copyAll(ctx, cl, s.out, req))
		})
		if interrupted(ctx) && req.GetFollow() {
			return nil // this is how following ends
		}
		return err
	})
}

// noOutput marks that of a task, which is there, the output is not.
func noOutput(id string, err error) error {
	if id == "" || task.CodeOf(err) != task.CodeNotFound {
		return err
	}
	return noTask(err)
}

// tellAttempt says of which attempt the output is, where there was more than one.
func (s *session) tellAttempt(ctx context.Context, cl *client, req *pb.StreamLogsRequest) error {
	t, err := cl.GetTask(ctx, &pb.GetTaskRequest{TaskId: req.GetTaskId()})
	switch n := t.GetAttempt(); {
	case err != nil:
		return err
	case req.GetAttempt() > n:
		return noTask(task.Errorf(task.CodeNotFound, "task %s has no attempt %d: there were %d so far", t.GetId(), req.GetAttempt(), n))
	case n > 1 && req.GetAttempt() == 0:
		s.err.printf("note: this is attempt %d of %d; --attempt N shows another\n", n, n)
	}
	return nil
}

// followOutput prints the output of a task until it ends.
func (s *session) followOutput(ctx context.Context, cl *client, to *screen, id string) error {
	return s.copyOutput(ctx, cl, to, &pb.StreamLogsRequest{TaskId: id, Follow: true})
}

// copyOutput prints a task's output. When the connection breaks while it
// follows, it takes up again at the byte where it was.
func (s *session) copyOutput(ctx context.Context, cl *client, to *screen, req *pb.StreamLogsRequest) error {
	gone := absence{s: s, cl: cl}
	for {
		err := copyStream(ctx, cl, to, req)
		if err == nil || !req.GetFollow() {
			return err
		}
		if err := gone.over(ctx, err); err != nil {
			return err
		}
	}
}

// copyUnattended follows where nobody runs tasks: of one that has ended all there is can
// be printed; of another what there is, and that no more comes is an error.
func (s *session) copyUnattended(ctx context.Context, cl *client, to *screen, req *pb.StreamLogsRequest) error {
	if req.GetTaskId() != "" {
		t, err := cl.GetTask(ctx, &pb.GetTaskRequest{TaskId: req.GetTaskId()})
		if err != nil {
			return err
		}
		if ended(t) {
			return copyStream(ctx, cl, to, req)
		}
	}
	req.Follow = false
	err := copyStream(ctx, cl, to, req)
	if req.GetTaskId() == "" {
		return err // none has begun
	}
	t, lookup := cl.GetTask(ctx, &pb.GetTaskRequest{TaskId: req.GetTaskId()})
	if lookup != nil {
		return lookup
	}
	if !ended(t) {
		return cl.errNobody(fmt.Sprintf("task %s is %s and cannot be followed", t.GetId(), t.GetState()))
	}
	return err
}

// copyStream prints one stream, and notes in req how far it came.
func copyStream(ctx context.Context, cl *client, to *screen, req *pb.StreamLogsRequest) error {
	stream, err := cl.StreamLogs(ctx, req)
	if err != nil {
		return err
	}
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if id := chunk.GetTaskId(); id != "" {
			req.TaskId, req.Attempt = id, chunk.GetAttempt()
		}
		req.Tail, req.Offset = 0, chunk.GetNextOffset()
		if _, err := to.Write(chunk.GetData()); err != nil {
			return err
		}
	}
}
