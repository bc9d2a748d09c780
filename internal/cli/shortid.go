package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// Bounds of looking for a task by a part of its id: a shorter part would mean
// another task tomorrow, and by the end of their id only newer tasks are found.
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
	if _, other := errors.AsType[*noTaskError](err); other || task.CodeOf(err) != task.CodeNotFound {
		return got, err
	}
	if errors.Is(err, task.ErrRemoved) { // it was that one, and no other is meant
		return got, noTask(err)
	}
	whole, ambiguous := s.wholeID(ctx, cl, id)
	switch {
	case ambiguous != nil:
		return got, ambiguous
	case whole == "" && len(id) < shortIDLeast:
		return got, task.Errorf(task.CodeNotFound, "%w; the beginning or the end of an id is taken for the whole from %d characters on", err, shortIDLeast)
	case whole == "":
		return got, err
	}
	return call(whole)
}

// wholeID returns the id that the part stands for, and says which it was; "" if
// there is none. That there are several is an error, which names them.
func (s *session) wholeID(ctx context.Context, cl *client, part string) (string, error) {
	if len(part) < shortIDLeast {
		return "", nil
	}
	var found []string
	take := func(tasks []*pb.TaskInfo) error {
		for _, t := range tasks {
			if id := t.GetId(); (strings.HasPrefix(id, part) || strings.HasSuffix(id, part)) && !slices.Contains(found, id) {
				found = append(found, id)
			}
		}
		return nil
	}
	_, err := eachPage(ctx, cl, selection{prefix: part, limit: shortIDShown + 1}, take) // however old
	if err == nil && len(found) <= shortIDShown {
		_, err = eachPage(ctx, cl, selection{limit: shortIDNewest}, take)
	}
	switch {
	case err != nil || len(found) == 0 || slices.Contains(found, part): // the whole one: something else was not found
		return "", nil
	case len(found) > 1:
		return "", &exitError{code: exitNotFound, msg: fmt.Sprintf("%s may be %s; give more of the id", part, candidates(found))}
	}
	s.err.printf("%s is taken for %s\n", part, found[0])
	return found[0], nil
}

// candidates names the tasks that may be meant. Beyond those that are shown it was not
// counted how many there are.
func candidates(ids []string) string {
	if len(ids) <= shortIDShown {
		return count(int64(len(ids)), "task") + ": " + strings.Join(ids, " ")
	}
	return fmt.Sprintf("any of more than %s, such as %s", count(shortIDShown, "task"), strings.Join(ids[:shortIDShown], " "))
}

// getTask is GetTask for an id or a part of one.
func (s *session) getTask(ctx context.Context, cl *client, id string) (*pb.TaskInfo, error) {
	return byID(ctx, s, cl, id, func(id string) (*pb.TaskInfo, error) {
		return cl.GetTask(ctx, &pb.GetTaskRequest{TaskId: id})
	})
}
