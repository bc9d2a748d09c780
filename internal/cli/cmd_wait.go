package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

const cmdWait = "wait"

func (s *session) waitCommand() *cli.Command {
	return s.command(cli.Command{
		Name: cmdWait, Usage: "wait for tasks to end", ArgsUsage: "ID...", Category: categorySubmit,
		UsageText: "dspy-agent wait [flags] ID...\ndspy-agent wait [flags] PREFIX/...\ndspy-agent wait [flags] --state STATE --class CLASS",
		Description: "Ends with the exit code of the task, as docs/cli.md lists it; of several tasks, with that of\n" +
			"the first, in the order given, that did not succeed. Ctrl-C leaves the tasks alone.\n" +
			"--state and --class mean the tasks that are so now; --class alone, those that have not ended.\n" +
			"PREFIX/ means all tasks that there are now whose ids begin so, as exp/lr-0.1 does with exp/.\n" +
			"--timeout gives up with code 75 and says what has not ended; the tasks go on.",
		Flags: append(targetFlags(), boolFlag("any", "wait for the first that ends, and end with its code"),
			&cli.StringFlag{Name: "timeout", Usage: "wait no longer than `TIME` (90, 10m, 1h30m, 2d)", DefaultText: "for ever"}, jsonFlag()),
		Action: s.wait,
	})
}

func (s *session) wait(c *cli.Context) error {
	cfg, err := s.configToCall(c)
	if err != nil {
		return err
	}
	want, err := s.wanted(c, cfg, unfinished())
	if err != nil {
		return err
	}
	limit, err := waitLimit(c)
	if err != nil {
		return err
	}
	return s.withClient(c, reads, func(ctx context.Context, cl *client) error {
		tasks, err := s.lookAtAll(ctx, cl, want)
		switch {
		case err != nil:
			return err
		case len(tasks) == 0 && want.chosen != nil:
			s.err.printf("no tasks%s in %s\n", want.describe(), cfg)
			return nil
		case c.Bool("dry-run"):
			return s.wouldWait(tasks)
		}
		if limit > 0 {
			// No deadline, of which the daemon would know and which it might be the first to find over.
			timed, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			defer time.AfterFunc(limit, func() { cancel(errWaitOver) }).Stop()
			ctx = timed
		}
		if c.Bool("any") {
			return waitOver(ctx, s.waitForAny(ctx, cl, tasks, c.Bool("json")), limit, tasks)
		}
		if err := cl.errNotEnded(tasks); err != nil {
			return err
		}
		done, err := s.waitForAll(ctx, cl, tasks, c.Bool("json"))
		if want.chosen != nil || c.IsSet("from-file") {
			s.err.printf("%s\n", countStates(done))
		}
		if err != nil {
			return waitOver(ctx, err, limit, tasks)
		}
		return exitWith(done)
	})
}

// errWaitOver is the cause of the context of a wait that took longer than it was to.
var errWaitOver = errors.New("the time to wait is over")

func waitLimit(c *cli.Context) (time.Duration, error) {
	if !c.IsSet("timeout") {
		return 0, nil
	}
	d, err := parseSpan(c.String("timeout"))
	if err != nil {
		return 0, usagef("--timeout: %s", err)
	}
	return max(d, time.Millisecond), nil // 0 is one look
}

// waitOver is the error of a wait that ended with err: where its time was over, which tasks
// have not ended.
func waitOver(ctx context.Context, err error, limit time.Duration, tasks []*pb.TaskInfo) error {
	if _, said := errors.AsType[*exitError](err); err == nil || said || !errors.Is(context.Cause(ctx), errWaitOver) {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(tasks), ended)
	var going, held []string
	for _, t := range left {
		if t.GetHeld() != "" {
			held = append(held, t.GetId())
		} else {
			going = append(going, t.GetId())
		}
	}
	text := fmt.Sprintf("after %s, %s of %s had not ended", span(limit), humanize.Comma(int64(len(left))), count(int64(len(tasks)), "task"))
	if len(going) > 0 {
		text += fmt.Sprintf(", and %s on: %s", goes(len(going)), someOf(going))
	}
	if len(held) > 0 {
		text += fmt.Sprintf("; held until somebody lets it go (%s queue release ID): %s", Program, someOf(held))
	}
	return &exitError{code: exitWaitOver, msg: text}
}

// someOf names the first of many tasks, and says how many more there are.
func someOf(ids []string) string {
	text := strings.Join(ids[:min(len(ids), leftShown)], " ")
	if rest := len(ids) - leftShown; rest > 0 {
		text += fmt.Sprintf(" and %s more", humanize.Comma(int64(rest)))
	}
	return text
}

func goes(n int) string {
	if n == 1 {
		return "goes"
	}
	return "go"
}

// lookAtAll finds the tasks before the first is waited for: a slip in the last id
// should not show tomorrow.
func (s *session) lookAtAll(ctx context.Context, cl *client, want targets) ([]*pb.TaskInfo, error) {
	tasks, err := want.resolve(ctx, cl)
	if err != nil || want.chosen != nil {
		return tasks, err
	}
	if len(tasks) > 1 {
		if err := lookUp(ctx, cl, tasks); err != nil {
			return nil, err
		}
	}
	for i, t := range tasks {
		if t.GetState() != "" {
			continue
		}
		if tasks[i], err = s.getTask(ctx, cl, t.GetId()); err != nil { // or a part of an id
			return nil, err
		}
	}
	return tasks, nil
}

// lookAhead is of how many tasks is asked at once, at first, whether they have ended while
// another one was waited for.
const lookAhead = 16

// waitForAll waits for the tasks in order, telling each end, and returns those that
// have ended when it was interrupted or failed. It keeps tasks as they were seen last.
func (s *session) waitForAll(ctx context.Context, cl *client, tasks []*pb.TaskInfo, asJSON bool) ([]*pb.TaskInfo, error) {
	var done []*pb.TaskInfo
	looked, ahead := len(tasks), lookAhead
	for i := range tasks {
		if !ended(tasks[i]) && i >= looked {
			looked = min(i+ahead, len(tasks))
			ahead = min(2*ahead, pageSize)
			if err := lookUp(ctx, cl, tasks[i:looked]); err != nil && task.CodeOf(err) != task.CodeUnavailable && !interrupted(ctx) {
				return done, err // else the wait that follows has the same trouble, and knows what to do
			}
		}
		if !ended(tasks[i]) || asJSON { // an object has the result as well
			had := ended(tasks[i])
			info, err := s.waitFor(ctx, cl, tasks[i].GetId())
			if err != nil {
				s.tellLeftAlone(ctx, idsOf(tasks[i:]))
				return done, err
			}
			tasks[i] = info
			if !had {
				looked, ahead = i+1, lookAhead
			}
		}
		done = append(done, tasks[i])
		if err := s.tellEnd(tasks[i], asJSON); err != nil {
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
	if !interrupted(ctx) || errors.Is(context.Cause(ctx), errWaitOver) {
		return
	}
	if len(ids) > leftShown {
		s.err.printf("%sno longer waiting; %s go on\n", s.err.afterCtrlC(), count(int64(len(ids)), "task"))
		return
	}
	verb := "goes on"
	if len(ids) > 1 {
		verb = "go on"
	}
	list := strings.Join(ids, " ")
	s.err.printf("%sno longer waiting; %s %s. To end it: %s cancel %s\n", s.err.afterCtrlC(), list, verb, Program, list)
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
