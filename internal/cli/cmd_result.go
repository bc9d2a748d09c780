package cli

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (s *session) resultCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "result", Usage: "print the JSON object that a task returned", ArgsUsage: "ID", Category: categorySubmit,
		Description: "A program returns a result by writing a JSON object to the file named by DSPY_RESULT_FILE.",
		Flags:       []cli.Flag{boolFlag("json", "print it on one line, on a terminal too")},
		Action: func(c *cli.Context) error {
			id, err := oneID(c)
			if err != nil {
				return err
			}
			return s.withClient(c, reads, func(ctx context.Context, cl *client) error {
				info, err := s.getTask(ctx, cl, id)
				if err != nil {
					return err
				}
				return s.result(info, c.Bool("json"))
			})
		},
	})
}

func (s *session) result(info *pb.TaskInfo, oneLine bool) error {
	raw := bytes.TrimSpace(info.GetResultJson()) // a program may have ended it with a newline
	switch {
	case len(raw) == 0 && !ended(info):
		return task.Errorf(task.CodeConflict, "task %s is %s and has no result yet; %s wait %s waits for it", info.GetId(), info.GetState(), Program, info.GetId())
	case len(raw) == 0 && info.GetState() != task.Succeeded.String():
		return &exitError{code: exitFailed, msg: "task " + info.GetId() + " has no result: " + endSentence(info)}
	case len(raw) == 0:
		return &exitError{code: exitFailed, msg: "task " + info.GetId() + " succeeded and returned no result"}
	}
	var out bytes.Buffer
	shape := json.Compact
	if s.out.tty && !oneLine {
		shape = func(dst *bytes.Buffer, src []byte) error { return json.Indent(dst, src, "", "  ") }
	}
	if err := shape(&out, raw); err != nil {
		out.Reset()
		out.Write(raw) // the daemon checked it; if it erred, show what there is
	}
	text := out.Bytes()
	if s.out.tty {
		text = escapeJSON(text)
	}
	s.out.printf("%s\n", text)
	return nil
}
