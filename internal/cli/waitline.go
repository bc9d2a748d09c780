package cli

import (
	"context"
	"errors"
	"time"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// waitLineEvery is how often a person who waits is told how far the task is.
const waitLineEvery = time.Second

// waitLine shows on a terminal how far a task is that is waited for. A pipe gets nothing.
type waitLine struct {
	s     *session
	cl    *client
	id    string
	shown bool
}

// wait waits for the task. Where a person watches it returns now and then before the end,
// with a line about it.
func (l *waitLine) wait(ctx context.Context) (*pb.TaskInfo, error) {
	req := &pb.WaitTaskRequest{TaskId: l.id}
	if !l.s.err.control() {
		return l.cl.WaitTask(ctx, req)
	}
	short, cancel := context.WithTimeout(ctx, waitLineEvery)
	defer cancel()
	info, err := l.cl.WaitTask(short, req)
	if err == nil || ctx.Err() != nil || !errors.Is(short.Err(), context.DeadlineExceeded) {
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
	cols, _ := l.s.err.size()
	since := max(t.GetSubmittedAtNs(), t.GetStartedAtNs())
	text := t.GetId() + " " + t.GetState() + " for " + span(l.s.now().Sub(time.Unix(0, since)).Truncate(time.Second))
	if reason = oneLine(reason); reason != "" && t.GetStartedAtNs() == 0 { // else the state says all
		text += ": " + reason
	}
	l.s.err.printf("\r\x1b[K%s", l.s.err.clip(text, cols-1))
	l.shown = true
}

// clear takes the line away, for what is said next.
func (l *waitLine) clear() {
	if l.shown {
		l.s.err.printf("\r\x1b[K")
		l.shown = false
	}
}
