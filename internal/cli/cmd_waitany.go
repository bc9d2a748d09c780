package cli

import (
	"context"
	"errors"
	"io"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// waitForAny is wait --any: it waits for the first of the tasks that ends.
func (s *session) waitForAny(ctx context.Context, cl *client, tasks []*pb.TaskInfo, asJSON bool) error {
	first := firstEnded(tasks)
	if first == nil {
		if err := cl.errNotEnded(tasks); err != nil {
			return err
		}
	}
	gone := absence{s: s, cl: cl}
	for first == nil {
		id, err := anyEnd(ctx, cl, idsOf(tasks))
		if err == nil {
			first, err = cl.GetTask(ctx, &pb.GetTaskRequest{TaskId: id})
		}
		if err == nil && !ended(first) {
			first = nil // somebody has had it tried again
		}
		if err == nil {
			continue
		}
		if err := gone.over(ctx, err); err != nil {
			s.tellLeftAlone(ctx, idsOf(tasks))
			return err
		}
	}
	if asJSON { // with its result
		whole, err := s.waitFor(ctx, cl, first.GetId())
		if err != nil {
			return err
		}
		first = whole
	}
	if err := s.tellEnd(first, asJSON); err != nil {
		return err
	}
	return exitWith([]*pb.TaskInfo{first})
}

// firstEnded returns the one that ended first; nil where none has.
func firstEnded(tasks []*pb.TaskInfo) *pb.TaskInfo {
	var first *pb.TaskInfo
	for _, t := range tasks {
		if ended(t) && (first == nil || t.GetEndedAtNs() < first.GetEndedAtNs()) {
			first = t
		}
	}
	return first
}

// anyEnd returns the id of the first task of which an end is told, or was.
func anyEnd(ctx context.Context, cl *client, ids []string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := cl.StreamTaskResults(ctx, &pb.StreamTaskResultsRequest{TaskIds: ids, IncludeCompleted: true})
	if err != nil {
		return "", err
	}
	result, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return "", task.Errorf(task.CodeUnavailable, "the daemon ended the stream of results")
	}
	return result.GetTaskId(), err
}
