package cli

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (s *session) waitCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "wait", Usage: "wait for tasks to end", ArgsUsage: "ID...", Category: categorySubmit,
		Description: "Ends with the exit code of the task, as docs/cli.md lists it; of several tasks, with that of\n" +
			"the first, in the order given, that did not succeed. Ctrl-C leaves the tasks alone.",
		Flags:  []cli.Flag{jsonFlag()},
		Action: s.wait,
	})
}

func (s *session) wait(c *cli.Context) error {
	ids, err := someIDs(c)
	if err != nil {
		return err
	}
	return s.withClient(c, func(ctx context.Context, cl *client) error {
		// Look at all first: a slip in the last id should not show tomorrow.
		for i, id := range ids {
			info, err := s.getTask(ctx, cl, id)
			if err != nil {
				return err
			}
			ids[i] = info.GetId()
		}
		var done []*pb.TaskInfo
		for _, id := range ids {
			info, err := s.waitFor(ctx, cl, id)
			if err != nil {
				s.tellLeftAlone(ctx, ids[len(done):])
				return err
			}
			done = append(done, info)
			if err := s.tellEnd(info, c.Bool("json")); err != nil {
				return err
			}
		}
		return exitWith(done)
	})
}

// submitAndWait is submit --wait and submit --follow.
func (s *session) submitAndWait(ctx context.Context, cl *client, answer *pb.SubmitTaskResponse, follow, asJSON bool) error {
	id := answer.GetTaskId()
	if !asJSON {
		s.err.printf("submitted %s\n", id) // not on stdout, which may be the task's own output
	}
	if follow {
		to := s.out
		if asJSON {
			to = s.err // stdout is for the object alone
		}
		if err := s.followOutput(ctx, cl, to, id); err != nil {
			s.tellLeftAlone(ctx, []string{id})
			return err
		}
	}
	info, err := s.waitFor(ctx, cl, id)
	if err != nil {
		s.tellLeftAlone(ctx, []string{id})
		return err
	}
	if !follow || asJSON {
		if err := s.tellEnd(info, asJSON); err != nil {
			return err
		}
	} else if code := taskExit(info); code != exitDone {
		s.err.printf("%s %s\n", id, endSentence(info))
	}
	return exitWith([]*pb.TaskInfo{info})
}

// How long and how often a wait looks for a daemon that went away: long enough
// to be restarted or replaced by a newer one, which running tasks survive.
const (
	reconnectFor   = 30 * time.Second
	reconnectEvery = 500 * time.Millisecond
)

// waitFor returns the task when it has ended. A daemon that is restarted
// meanwhile does not end the wait.
func (s *session) waitFor(ctx context.Context, cl *client, id string) (*pb.TaskInfo, error) {
	var lostAt time.Time
	for {
		info, err := cl.WaitTask(ctx, &pb.WaitTaskRequest{TaskId: id})
		switch {
		case err == nil && ended(info):
			return info, nil
		case err == nil:
			lostAt = time.Time{} // it answered early; ask again
		case interrupted(ctx) || task.CodeOf(err) != task.CodeUnavailable:
			return nil, err
		case lostAt.IsZero():
			lostAt = s.now()
			s.tellAway()
		case s.now().Sub(lostAt) > reconnectFor:
			return nil, err
		}
		if err != nil && !pause(ctx, reconnectEvery) {
			return nil, ctx.Err()
		}
	}
}

// tellAway says why nothing comes for a while.
func (s *session) tellAway() {
	s.err.printf("the daemon went away; waiting up to %s for it to come back\n", span(reconnectFor))
}

// pause waits a while; false says that the command was interrupted.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// tellLeftAlone says, after Ctrl-C, what goes on and how to end it.
func (s *session) tellLeftAlone(ctx context.Context, ids []string) {
	if !interrupted(ctx) {
		return
	}
	verb := "goes on"
	if len(ids) > 1 {
		verb = "go on"
	}
	list := strings.Join(ids, " ")
	s.err.printf("\nno longer waiting; %s %s. To end it: %s cancel %s\n", list, verb, Program, list)
}

// tellEnd says how a task ended: on stdout, one line or one object.
func (s *session) tellEnd(info *pb.TaskInfo, asJSON bool) error {
	if asJSON {
		j := taskJSON(info, s.now())
		j.Spec = nil
		return writeJSONLine(s.out, j)
	}
	if !s.out.tty {
		s.out.printf("%s\t%s\t%d\t%s\n", info.GetId(), info.GetState(), taskExit(info), word(info))
		return nil
	}
	where := ""
	if taskExit(info) != exitDone && info.GetStartedAtNs() != 0 { // what never ran wrote nothing
		where = "; its output: " + Program + " logs " + info.GetId()
	}
	s.out.printf("%s %s%s\n", s.out.paint(bold, info.GetId()), s.out.paint(stateColours[info.GetState()], endSentence(info)), where)
	return nil
}

// endSentence says how a task ended, without its name.
func endSentence(info *pb.TaskInfo) string {
	after := ""
	if info.GetStartedAtNs() != 0 {
		after = " after " + span(ran(info, time.Time{}))
	}
	text := info.GetState() + after
	if w := word(info); w != "" && w != info.GetState() {
		text += ": " + w
	}
	return text
}

// exitWith ends the command with the code of the first task that did not succeed.
func exitWith(tasks []*pb.TaskInfo) error {
	for _, t := range tasks {
		if code := taskExit(t); code != exitDone {
			return &exitError{code: code}
		}
	}
	return nil
}

// rootCause returns the innermost text of an error, without the path that the
// sentence around it has already.
func rootCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
