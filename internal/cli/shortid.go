package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// Bounds of looking for a task by a part of its id: a shorter part would mean
// another task tomorrow, and older tasks are asked for by their whole id.
const (
	shortIDLeast  = 6
	shortIDNewest = 10_000
	shortIDShown  = 5
)

// byID calls the daemon about a task. Where it knows none of that id, the
// beginning or the end of one is taken for the whole, if it is that of one task
// only: a narrow terminal shows no more. Only commands that look do this; those
// that change a task want its id.
func byID[T any](ctx context.Context, s *session, cl *client, id string, call func(id string) (T, error)) (T, error) {
	got, err := call(id)
	if task.CodeOf(err) != task.CodeNotFound {
		return got, err
	}
	whole := s.wholeID(ctx, cl, id)
	if whole == "" {
		return got, err
	}
	return call(whole)
}

// wholeID returns the id that the part stands for; "" if there is none or more
// than one. It says which it was, or which it may have been.
func (s *session) wholeID(ctx context.Context, cl *client, part string) string {
	if len(part) < shortIDLeast {
		return ""
	}
	var found []string
	_, err := eachPage(ctx, cl, selection{limit: shortIDNewest}, func(tasks []*pb.TaskInfo) error {
		for _, t := range tasks {
			if id := t.GetId(); strings.HasPrefix(id, part) || strings.HasSuffix(id, part) {
				found = append(found, id)
			}
		}
		return nil
	})
	switch {
	case err != nil || len(found) == 0 || slices.Contains(found, part): // the whole one: something else was not found
		return ""
	case len(found) > 1:
		s.err.printf("%s may be %s: %s\n", part, count(int64(len(found)), "task"), strings.Join(found[:min(len(found), shortIDShown)], " "))
		return ""
	}
	s.err.printf("%s is taken for %s\n", part, found[0])
	return found[0]
}

// getTask is GetTask for an id or a part of one.
func (s *session) getTask(ctx context.Context, cl *client, id string) (*pb.TaskInfo, error) {
	return byID(ctx, s, cl, id, func(id string) (*pb.TaskInfo, error) {
		return cl.GetTask(ctx, &pb.GetTaskRequest{TaskId: id})
	})
}
