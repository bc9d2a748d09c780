package cli

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (s *session) cancelCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "cancel", Usage: "cancel tasks that wait or run", ArgsUsage: "ID... | PREFIX/", Category: categorySubmit,
		UsageText: "dspy-agent cancel [flags] ID...\ndspy-agent cancel [flags] PREFIX/...\ndspy-agent cancel [flags] --state STATE --class CLASS",
		Description: "A task that runs is asked to end (SIGTERM), and made to after its grace; wait tells when it has.\n" +
			"One that has ended already is told as that and is no failure. --class alone means the tasks\n" +
			"of the class that have not ended, and PREFIX/ those whose ids begin so, as exp/lr-0.1 does with\n" +
			"exp/; the last line says how many they were, and --dry-run says it before.",
		Flags: append(targetFlags(), &cli.StringFlag{Name: "reason", Usage: "`TEXT` that is kept with the task"}, jsonFlag()),
		Action: func(c *cli.Context) error {
			reason := c.String("reason")
			// Newest first: what waits for others is cancelled before those are, and
			// so does not fail for want of them.
			return s.bulk(c, verb{states: unfinished(), newestFirst: true, atOnce: 32, would: wouldCancel, already: cancelAlready, away: s.cancelElsewhere, do: func(ctx context.Context, cl *client, id string) (verdict, error) {
				began := s.now().UnixNano()
				answer, err := cl.CancelTask(ctx, &pb.CancelTaskRequest{TaskId: id, Reason: reason})
				if err != nil && task.CodeOf(err) == task.CodeConflict {
					return hadEnded(ctx, cl, id, err)
				}
				v := cancelled(answer.GetTask(), began)
				if err == nil && cl.unattended() && !ended(answer.GetTask()) {
					v.said, v.kind = "is to be stopped, once somebody runs the queue", "to be stopped"
					s.remind(cl, "what runs is not stopped yet")
				}
				return v, err
			}})
		},
	})
}

// cancelled says what a cancel that was asked for at a time has done.
func cancelled(t *pb.TaskInfo, asked int64) verdict {
	v := verdict{info: t, said: "is being cancelled", kind: "being cancelled"}
	switch {
	case ended(t) && t.GetEndedAtNs() < asked:
		v.said, v.kind = endedAlready(t), "already ended"
	case t.GetState() == task.Cancelled.String():
		v.said, v.kind = "cancelled", "cancelled"
	case ended(t): // just now, by itself
		v.said, v.kind = endedAlready(t), "already ended"
	}
	return v
}

// cancelAlready is the verdict on a task that had ended before anything was asked for.
func cancelAlready(t *pb.TaskInfo) (verdict, bool) {
	return verdict{info: t, said: endedAlready(t), kind: "already ended"}, ended(t)
}

// hadEnded is the verdict on a task that could not be cancelled since it had ended;
// where that is not the reason, refusal is.
func hadEnded(ctx context.Context, cl *client, id string, refusal error) (verdict, error) {
	t, err := cl.GetTask(ctx, &pb.GetTaskRequest{TaskId: id})
	if err != nil || !ended(t) {
		return verdict{}, refusal
	}
	return verdict{info: t, said: endedAlready(t), kind: "already ended"}, nil
}

func wouldCancel(t *pb.TaskInfo) verdict {
	if ended(t) {
		return verdict{info: t, said: endedAlready(t), kind: "already ended"}
	}
	return verdict{info: t, said: "is " + t.GetState() + " and would be cancelled", kind: "would cancel"}
}

// endedAlready says how a task has ended: the rest of a sentence.
func endedAlready(t *pb.TaskInfo) string {
	switch t.GetState() {
	case task.Cancelled.String():
		return "was cancelled already"
	case task.Lost.String():
		return "is lost already"
	}
	return "has " + t.GetState() + " already"
}
