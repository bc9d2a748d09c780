package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (s *session) whyCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "why", Usage: "say in one sentence why a task is where it is", ArgsUsage: "ID", Category: categorySubmit,
		Description: "The first line is the sentence; facts about the task follow.",
		Flags:       []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			id, err := oneID(c)
			if err != nil {
				return err
			}
			return s.withClient(c, reads, func(ctx context.Context, cl *client) error {
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
				s.why(answer.GetTask(), answer.GetReason())
				return nil
			})
		},
	})
}

// why prints the sentence, and the facts that people ask for next.
func (s *session) why(t *pb.TaskInfo, reason string) {
	s.out.printf("%s\n", whySentence(t, reason))
	s.out.printf("\n")
	if name := oneLine(t.GetName()); name != t.GetId() {
		s.field("name", name)
	}
	state := s.out.state(t.GetState())
	if t.GetAttempt() > 1 || len(t.GetPast()) > 0 {
		state += fmt.Sprintf(", attempt %d", t.GetAttempt())
	}
	s.field("state", state)
	s.field("class", t.GetClass())
	if t.GetPriority() != 0 {
		s.field("priority", fmt.Sprint(t.GetPriority()))
	}
	s.showTimes(t)
	if ended(t) && t.GetStartedAtNs() != 0 {
		s.field("more", Program+" logs "+t.GetId())
	}
}

// whySentence makes a sentence of the daemon's reason, which says "waiting for x"
// or "failed 3s ago: ...", and leaves out of whom it speaks.
func whySentence(t *pb.TaskInfo, reason string) string {
	verb := "is "
	switch t.GetState() {
	case task.Succeeded.String(), task.Failed.String():
		verb = ""
	case task.Cancelled.String(), task.Lost.String():
		verb = "was "
	}
	text := t.GetId() + " " + verb + strings.TrimPrefix(oneLine(reason), "it is ")
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}
