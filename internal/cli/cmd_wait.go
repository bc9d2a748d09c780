package cli

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (s *session) waitCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "wait", Usage: "wait for tasks to end", ArgsUsage: "ID...", Category: categorySubmit,
		UsageText: "dspy-agent wait [flags] ID...\ndspy-agent wait [flags] --state STATE --class CLASS",
		Description: "Ends with the exit code of the task, as docs/cli.md lists it; of several tasks, with that of\n" +
			"the first, in the order given, that did not succeed. Ctrl-C leaves the tasks alone.\n" +
			"--state and --class mean the tasks that are so now; --class alone, those that have not ended.",
		Flags:  append(targetFlags(), jsonFlag()),
		Action: s.wait,
	})
}

func (s *session) wait(c *cli.Context) error {
	cfg, err := s.config(c)
	if err != nil {
		return err
	}
	want, err := s.wanted(c, cfg, unfinished())
	if err != nil {
		return err
	}
	return s.withClient(c, reads, func(ctx context.Context, cl *client) error {
		tasks, err := s.lookAtAll(ctx, cl, want)
		switch {
		case err != nil:
			return err
		case len(tasks) == 0 && want.chosen != nil:
			s.err.printf("no tasks%s in %s\n", want.chosen.describe(), cfg)
			return nil
		case c.Bool("dry-run"):
			return s.wouldWait(tasks)
		}
		if err := cl.errNotEnded(tasks); err != nil {
			return err
		}
		done, err := s.waitForAll(ctx, cl, tasks, c.Bool("json"))
		if want.chosen != nil || c.IsSet("from-file") {
			s.err.printf("%s\n", countStates(done))
		}
		if err != nil {
			return err
		}
		return exitWith(done)
	})
}

// lookAtAll finds the tasks before the first is waited for: a slip in the last id
// should not show tomorrow.
func (s *session) lookAtAll(ctx context.Context, cl *client, want targets) ([]*pb.TaskInfo, error) {
	tasks, err := want.resolve(ctx, cl)
	if err != nil || want.chosen != nil {
		return tasks, err
	}
	for i, t := range tasks {
		if tasks[i], err = s.getTask(ctx, cl, t.GetId()); err != nil {
			return nil, err
		}
	}
	return tasks, nil
}

// waitForAll waits for the tasks in order, telling each end, and returns those that
// have ended when it was interrupted or failed.
func (s *session) waitForAll(ctx context.Context, cl *client, tasks []*pb.TaskInfo, asJSON bool) ([]*pb.TaskInfo, error) {
	var done []*pb.TaskInfo
	for i, t := range tasks {
		info, err := s.waitFor(ctx, cl, t.GetId())
		if err != nil {
			s.tellLeftAlone(ctx, idsOf(tasks[i:]))
			return done, err
		}
		done = append(done, info)
		if err := s.tellEnd(info, asJSON); err != nil {
			return done, err
		}
	}
	return done, nil
}

func (s *session) wouldWait(tasks []*pb.TaskInfo) error {
	for _, t := range tasks {
		said := "is " + t.GetState() + " and would be waited for"
		if ended(t) {
			said = endedAlready(t)
		}
		s.out.printf("%s %s\n", t.GetId(), said)
	}
	return s.out.err
}

func idsOf(tasks []*pb.TaskInfo) []string {
	ids := make([]string, len(tasks))
	for i, t := range tasks {
		ids[i] = t.GetId()
	}
	return ids
}

// countStates says how many tasks are in which state: "succeeded 12, failed 3".
func countStates(tasks []*pb.TaskInfo) string {
	n := map[string]int64{}
	for _, t := range tasks {
		n[t.GetState()]++
	}
	var parts []string
	for _, st := range task.States {
		if k := n[st.String()]; k > 0 {
			parts = append(parts, st.String()+" "+humanize.Comma(k))
		}
	}
	if len(parts) == 0 {
		return "none has ended"
	}
	return strings.Join(parts, ", ")
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

// waitFor returns the task when it has ended. A daemon that is restarted
// meanwhile does not end the wait.
func (s *session) waitFor(ctx context.Context, cl *client, id string) (*pb.TaskInfo, error) {
	gone := absence{s: s, cl: cl}
	line := waitLine{s: s, cl: cl, id: id}
	defer line.clear()
	for {
		info, err := line.wait(ctx)
		switch {
		case err == nil && ended(info):
			return info, nil
		case err == nil:
			continue // it answered early; ask again
		}
		line.clear()
		if err := gone.over(ctx, err); err != nil {
			return nil, err
		}
	}
}

// leftShown bounds the list of tasks that are no longer waited for.
const leftShown = 5

// tellLeftAlone says, after Ctrl-C, what goes on and how to end it.
func (s *session) tellLeftAlone(ctx context.Context, ids []string) {
	if !interrupted(ctx) {
		return
	}
	if len(ids) > leftShown {
		s.err.printf("\nno longer waiting; %s go on\n", count(int64(len(ids)), "task"))
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
	if ranKnown(info) {
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
