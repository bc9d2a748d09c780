package api

import (
	"context"

	"github.com/dspy-agent/dspy-agent/internal/envelope"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// Enclosed is a submission that came as a JSON object, through a door that is not
// this package's.
type Enclosed struct {
	envelope.Submission
	// Extra is kept with the task, for whoever brought it; a JSON value, or nil.
	Extra []byte
}

// SubmitEnclosed accepts tasks as POST /queue/submit does, in one commit. There is one
// answer per submission, in order: its Err is of the submission's making, as the client
// of a call would see it. The error is for the whole: nothing was stored. Every
// submission has an ID.
func (s *Server) SubmitEnclosed(ctx context.Context, who rpc.Peer, subs []Enclosed) ([]Accepted, error) {
	orders := make([]order, len(subs))
	for i, sub := range subs {
		orders[i] = order{
			SubmitTaskRequest: &pb.SubmitTaskRequest{Id: sub.ID, Class: sub.Class, Priority: sub.Priority},
			fields:            sub.Payload,
			extra:             sub.Extra,
		}
	}
	answers, err := service{Server: s}.accept(ctx, orders, func(spec *task.Spec) error {
		spec.SubmitUID, spec.Via = who.UID, who.Via
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]Accepted, len(answers))
	for i, a := range answers {
		out[i].Existing = a.GetExisting()
		if !a.GetSuccess() {
			out[i].Err = task.Errorf(rpc.CodeNamed(a.GetCode()), "%s", a.GetError())
		}
	}
	return out, nil
}

// SubmitOrder accepts one task as SubmitTask does, for a door that is not this
// package's. An error is what the caller of SubmitTask would see.
func (s *Server) SubmitOrder(ctx context.Context, who rpc.Peer, req *pb.SubmitTaskRequest) error {
	answers, err := service{Server: s}.accept(ctx, []order{{SubmitTaskRequest: req}}, func(spec *task.Spec) error {
		spec.SubmitUID, spec.Via = who.UID, who.Via
		return nil
	})
	if err == nil && !answers[0].GetSuccess() {
		err = task.Errorf(rpc.CodeNamed(answers[0].GetCode()), "%s", answers[0].GetError())
	}
	return err
}

// ResultOf returns what a task that has ended gave back, as GET /tasks/{id} answers it:
// under the program's own keys, with the metadata beside them; and why it has not
// succeeded, "" if it has.
func ResultOf(t task.Task, result task.Result) (members map[string]any, failure string) {
	e := endingOf(t, result)
	return e.members(), e.failure()
}
