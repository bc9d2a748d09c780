package api

import (
	"context"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// SpecOf is what a submission asks for, as a server with those options would store it.
// Of the options only Class, Types, Jobs and Workspace are used.
func SpecOf(ctx context.Context, o Options, req *pb.SubmitTaskRequest) (*task.Spec, error) {
	return service{Server: &Server{opts: o}}.resolve(ctx, order{SubmitTaskRequest: req}, rpc.Peer{})
}

// SpecOfTask is what was asked for by a task that a server has told about.
func SpecOfTask(p *pb.TaskInfo) (*task.Spec, error) {
	s, err := specFrom(p.GetSpec())
	if err != nil {
		return nil, err
	}
	s.ID, s.Name, s.Class, s.Payload = p.GetId(), p.GetName(), p.GetClass(), p.GetSpec().GetPayloadJson()
	if len(s.Argv) == 0 && s.Image == "" {
		s.Builtin = task.BuiltinTemplate // the wire does not tell built-ins, and no other has a job
	}
	return s, nil
}
