package cli

import (
	"context"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

const (
	cmdPause  = "pause"
	cmdResume = "resume"
)

func (s *session) pauseCommand() *cli.Command {
	return s.command(cli.Command{
		Name: cmdPause, Usage: "start nothing more of some classes of tasks", ArgsUsage: "CLASS...", Category: categoryDaemon,
		Description: "Tasks of a paused class are accepted and wait; those that run go on, as do those that were handed over\n" +
			"to be started. It holds until " + Program + " resume, also when the daemon is started anew.\n" +
			"status and why tell who paused a class, when and why. A class that is paused already stays so as it was.",
		Flags: []cli.Flag{&cli.StringFlag{Name: "reason", Usage: "`TEXT` for those who ask why a task waits"}, jsonFlag()},
		Action: func(c *cli.Context) error {
			reason := c.String("reason")
			return s.eachClass(c, func(ctx context.Context, cl *client, class string) (*pb.ClassStats, bool, string, error) {
				answer, err := cl.PauseClass(ctx, &pb.PauseClassRequest{Class: class, Reason: reason})
				return answer.GetClass(), answer.GetAlready(), pausedNow(answer), err
			})
		},
	})
}

func (s *session) resumeCommand() *cli.Command {
	return s.command(cli.Command{
		Name: cmdResume, Usage: "end the pause of some classes of tasks", ArgsUsage: "CLASS...", Category: categoryDaemon,
		Description: "What waits is looked at at once, and starts where there is room.",
		Flags:       []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			return s.eachClass(c, func(ctx context.Context, cl *client, class string) (*pb.ClassStats, bool, string, error) {
				answer, err := cl.ResumeClass(ctx, &pb.ResumeClassRequest{Class: class})
				return answer.GetClass(), answer.GetAlready(), resumedNow(answer), err
			})
		},
	})
}

// eachClass does something to all classes that are given, goes on after a failure,
// and ends with the worst exit code. do returns how the class is then, whether it was
// so before, and what to say.
func (s *session) eachClass(c *cli.Context, do func(context.Context, *client, string) (*pb.ClassStats, bool, string, error)) error {
	if c.NArg() == 0 {
		return usagef("%s takes one or more classes; %s config show classes lists them", c.Command.Name, Program)
	}
	if slices.Contains(c.Args().Slice(), "") {
		return usagef("%s was given an empty class; is a variable of the shell not set?", c.Command.Name)
	}
	return s.withClient(c, writes, func(ctx context.Context, cl *client) error {
		worst := exitDone
		for _, class := range c.Args().Slice() {
			k, already, said, err := do(ctx, cl, class)
			switch {
			case err != nil && (interrupted(ctx) || task.CodeOf(err) == task.CodeUnavailable):
				return err // the others would fail as well
			case err != nil:
				s.err.printf("%s: %s\n", oneLine(class), oneLine(err.Error()))
				code := exitCode(ctx, err)
				if task.CodeOf(err) == task.CodeInvalid { // a slip in what was typed, as it is for submit --class
					code = exitUsage
				}
				worst = max(worst, code)
			case c.Bool("json"):
				j := classJSON(k)
				j.Already = already
				if err := writeJSONLine(s.out, j); err != nil {
					return err
				}
			default:
				s.out.printf("%s\n", oneLine(said))
			}
		}
		if worst != exitDone {
			return &exitError{code: worst}
		}
		return nil
	})
}

func pausedNow(answer *pb.PauseClassResponse) string {
	k := answer.GetClass()
	if answer.GetAlready() {
		return k.GetName() + " was paused already, " + pauseOf(k.GetPausedAtMs(), k.GetPausedBy(), k.GetPausedReason()).String()
	}
	said := k.GetName() + " is paused: " + count(waitingIn(k), "task") + " waiting"
	if n := activeIn(k); n > 0 {
		said += ", " + goOn(n)
	}
	return said + "; resume with: " + Program + " " + cmdResume + " " + k.GetName()
}

func resumedNow(answer *pb.ResumeClassResponse) string {
	k := answer.GetClass()
	if answer.GetAlready() {
		return k.GetName() + " was not paused"
	}
	return k.GetName() + " is resumed: " + count(waitingIn(k), "task") + " waiting"
}

// pauseOf reads a pause off the wire.
func pauseOf(atMs int64, by, reason string) task.Pause {
	return task.Pause{At: task.Instant(atMs) * task.Instant(time.Millisecond), By: by, Reason: reason}
}

func waitingIn(k *pb.ClassStats) int64 { return k.GetStates()[task.Pending.String()] }

func activeIn(k *pb.ClassStats) (n int64) {
	for _, st := range activeStates() {
		n += k.GetStates()[st]
	}
	return n
}
