package cli

import (
	"context"
	"errors"
	"time"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// waitLineEvery is how often a person who waits is told how far the task is.
const waitLineEvery = time.Second

// waitSilence is after how long a pipe is told, once, what a task waits for that has not
// begun: it may never.
const waitSilence = 5 * time.Second

// waitLine shows on a terminal how far a task is that is waited for. A pipe gets one line.
type waitLine struct {
	s     *session
	cl    *client
	id    string
	shown bool
	told  bool // once, to a pipe
}

// errLookNow is the cause of the end of a call that is made again after a look.
var errLookNow = errors.New("it is time to look how far the task is")

// wait waits for the task. Where a person watches it returns now and then before the end,
// with a line about it.
func (l *waitLine) wait(ctx context.Context) (*pb.TaskInfo, error) {
	req := &pb.WaitTaskRequest{TaskId: l.id}
	every := waitLineEvery
	if !l.s.err.control() {
		if every = l.s.waitSilence; l.told {
			return l.cl.WaitTask(ctx, req)
		}
	}
	// No deadline, of which the daemon would know and which it might be the first to find over.
	short, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer time.AfterFunc(every, func() { cancel(errLookNow) }).Stop()
	info, err := l.cl.WaitTask(short, req)
	if err == nil || ctx.Err() != nil || !errors.Is(context.Cause(short), errLookNow) {
		return info, err
	}
	answer, err := l.cl.ExplainTask(ctx, &pb.ExplainTaskRequest{TaskId: l.id})
	if err != nil {
		return nil, err
	}
	l.show(answer.GetTask(), answer.GetReason())
	return answer.GetTask(), nil
}

func (l *waitLine) show(t *pb.TaskInfo, reason string) {
	if ended(t) {
		return
	}
	if !l.s.err.control() {
		l.tell(t, reason)
		return
	}
	cols, _ := l.s.err.size()
	since := max(t.GetSubmittedAtNs(), t.GetStartedAtNs())
	text := t.GetId() + " " + t.GetState() + " for " + span(l.s.now().Sub(time.Unix(0, since)).Truncate(time.Second))
	if reason = oneLine(reason); reason != "" && t.GetStartedAtNs() == 0 { // else the state says all
		text += ": " + reason
	}
	l.s.err.printf("\r\x1b[K%s", l.s.err.clip(text, cols-1))
	l.shown = true
}

// tell says, once, why a task has not begun.
func (l *waitLine) tell(t *pb.TaskInfo, reason string) {
	if l.told = true; t.GetStartedAtNs() == 0 {
		l.s.err.printf("still waiting: %s\n", whySentence(t, reason))
	}
}

// clear takes the line away, for what is said next.
func (l *waitLine) clear() {
	if l.shown {
		l.s.err.printf("\r\x1b[K")
		l.shown = false
	}
}
