package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// send submits a task. When the connection breaks before the answer, nobody knows
// whether the task was accepted; so it is sent once more when the daemon is back,
// which knows it again by its id and its content. For that every task has an id
// before it is sent.
func (s *session) send(ctx context.Context, cl *client, req *pb.SubmitTaskRequest) (*pb.SubmitTaskResponse, error) {
	made := req.GetId() == ""
	if made {
		id, err := s.ids.Next(s.now())
		if err != nil {
			return nil, err
		}
		req.Id = id
	}
	answer, err := cl.SubmitTask(ctx, req)
	if !unanswered(ctx, err) {
		return answer, err
	}
	refused := errors.Is(err, api.ErrNothingDone)
	gone := absence{s: s, cl: cl}
	if waited := gone.over(ctx, err); waited != nil {
		return nil, s.unknown(ctx, req.GetId(), refused, waited)
	}
	answer, err = cl.SubmitTask(ctx, req)
	if unanswered(ctx, err) {
		return nil, s.unknown(ctx, req.GetId(), refused && errors.Is(err, api.ErrNothingDone), err)
	}
	if made && answer.GetExisting() {
		answer.Existing = false // it is the one that was sent first
	}
	return answer, err
}

// unanswered says whether a call ended without word of what became of it.
func unanswered(ctx context.Context, err error) bool {
	return err != nil && (interrupted(ctx) || task.CodeOf(err) == task.CodeUnavailable)
}

// unknown is the error about a task that may have been accepted; or, where all tries were
// refused, about one that surely was not.
func (s *session) unknown(ctx context.Context, id string, refused bool, err error) error {
	code, why := exitNoDaemon, err.Error()
	if interrupted(ctx) {
		code, why = interruptCode(ctx), "interrupted"
	}
	if refused {
		return &exitError{code: code, msg: fmt.Sprintf("%s\nTask %s was not accepted. Submitting it again is safe, with --id %s or without.", why, id, id)}
	}
	return &exitError{code: code, msg: fmt.Sprintf(
		"%s\nIt is not known whether task %s was accepted: %s show %s tells. Submitting the same again is safe with --id %s: it is stored once.",
		why, id, Program, id, id)}
}
