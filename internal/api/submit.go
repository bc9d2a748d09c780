package api

import (
	"cmp"
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/payload"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// MaxBatch is how many tasks one SubmitTasks may carry: they share one commit,
// and everybody else waits for it.
const MaxBatch = 10_000

// SubmitTask accepts one task.
func (s service) SubmitTask(ctx context.Context, req *pb.SubmitTaskRequest) (*pb.SubmitTaskResponse, error) {
	leave, err := s.inflight.enter(ctx, int64(proto.Size(req)))
	if err != nil {
		return nil, err
	}
	defer leave()
	answers, err := s.submit(ctx, []*pb.SubmitTaskRequest{req})
	if err != nil {
		return nil, err
	}
	return answers[0], nil
}

// SubmitTasks accepts many tasks in one commit.
func (s service) SubmitTasks(ctx context.Context, req *pb.SubmitTasksRequest) (*pb.SubmitTasksResponse, error) {
	if n := len(req.GetTasks()); n > MaxBatch {
		return nil, task.Errorf(task.CodeExhausted, "%d tasks in one request; at most %d are allowed", n, MaxBatch)
	}
	leave, err := s.inflight.enter(ctx, int64(proto.Size(req)))
	if err != nil {
		return nil, err
	}
	defer leave()
	answers, err := s.submit(ctx, req.GetTasks())
	if err != nil {
		return nil, err
	}
	return &pb.SubmitTasksResponse{Results: answers}, nil
}

// order is a submission, whichever door it came through.
type order struct {
	*pb.SubmitTaskRequest
	// fields are the payload where the door takes JSON; nil = it is in the request.
	fields payload.Fields
	// extra is kept with the task, for whoever brought it. It belongs to this submission,
	// not to its id: others of the same call may have the same id.
	extra []byte
}

// submit answers every request, in order.
// The checks come on top of what is asked of every task.
func (s service) submit(ctx context.Context, reqs []*pb.SubmitTaskRequest, checks ...func(*task.Spec) error) ([]*pb.SubmitTaskResponse, error) {
	orders := make([]order, len(reqs))
	for i, req := range reqs {
		orders[i].SubmitTaskRequest = req
	}
	return s.accept(ctx, orders, checks...)
}

// accept answers every submission, in order: those that cannot become a spec at
// once, the others with what the queue says.
func (s service) accept(ctx context.Context, reqs []order, checks ...func(*task.Spec) error) ([]*pb.SubmitTaskResponse, error) {
	answers := make([]*pb.SubmitTaskResponse, len(reqs))
	specs := make([]*task.Spec, 0, len(reqs))
	place := make([]int, 0, len(reqs)) // of each spec among the answers
	who, _ := rpc.PeerFrom(ctx)
	for i, req := range reqs {
		spec, err := s.resolve(ctx, req, who)
		for _, check := range checks {
			if err == nil {
				err = check(spec)
			}
		}
		if err != nil {
			answers[i] = refusedTo(req.GetId(), err)
			continue
		}
		specs = append(specs, spec)
		place = append(place, i)
	}
	if len(specs) == 0 {
		return answers, nil
	}
	accepted, err := s.opts.Queue.Submit(ctx, specs)
	if err != nil {
		return nil, err
	}
	warn := s.warner()
	for i, a := range accepted {
		answer := acceptedTo(specs[i].ID, a)
		if a.Err == nil {
			answer.Warning = warn(a.Task)
		}
		answers[place[i]] = answer
	}
	return answers, nil
}

// resolve makes the spec of a submission, or says why it is refused. The queue
// validates it, gives it an id where it has none, and dates it.
func (s service) resolve(ctx context.Context, req order, who rpc.Peer) (*task.Spec, error) {
	fields, err := fieldsOf(req)
	if err != nil {
		return nil, err
	}
	className := req.GetClass()
	if className == "" && readsPayload(req, fields) {
		className = payload.Class(fields, s.opts.Types)
	}
	class, err := s.opts.Class(className)
	if err != nil {
		return nil, err
	}
	spec, err := specFrom(req.GetSpec())
	if err != nil {
		return nil, err
	}
	spec.ID, spec.Name, spec.Class, spec.Priority = req.GetId(), req.GetName(), class.Name, req.GetPriority()
	spec.WorkflowID = req.GetWorkflowId()
	spec.SubmitUID, spec.Via, spec.Extra = who.UID, who.Via, req.extra
	if spec.Payload, err = fields.JSON(); err != nil {
		return nil, err
	}
	through, err := s.template(spec, class)
	if err != nil {
		return nil, err
	}
	switch reads := readsPayload(req, fields); {
	case through.Name != "":
		if err := s.throughTemplate(spec, fields, through, reads || len(spec.Argv) == 0); err != nil {
			return nil, err
		}
		class.GPUs, class.Image = 0, "" // what a job gets is for its template to say
	case reads:
		if err := payload.ResolveIn(fields, s.opts.Types, spec, class.Image); err != nil {
			return nil, err
		}
	}
	if spec.Dir == "" && spec.Builtin != task.BuiltinEcho {
		spec.Dir = s.opts.Workspace
	}
	if spec.Builtin == "" {
		spec.Image = cmp.Or(spec.Image, class.Image)
	}
	if spec.Timeout == 0 {
		spec.Timeout, spec.ClassTimeout = class.Timeout, class.Timeout > 0
	}
	if err := s.gpus(ctx, spec, class); err != nil {
		return nil, err
	}
	if err := refuseLater(spec); err != nil {
		return nil, err
	}
	if s.opts.AdmitContainer != nil && spec.Image != "" {
		if err := s.opts.AdmitContainer(spec); err != nil {
			return nil, err
		}
	}
	if s.opts.Jobs == nil || !class.Elsewhere {
		return spec, nil
	}
	return spec, s.opts.Jobs.Check(spec)
}

// fieldsOf merges the two payloads of a request.
func fieldsOf(req order) (payload.Fields, error) {
	if req.fields != nil {
		return req.fields, nil
	}
	below, err := payload.Parse(req.GetSpec().GetPayloadJson())
	if err != nil {
		return nil, err
	}
	return payload.FromText(req.GetPayload()).Over(below), nil
}

// readsPayload says whether the payload is read for what to run. A spec says it
// itself; one that says nothing may leave it to the payload, but never comes to
// be echoed.
func readsPayload(req order, fields payload.Fields) bool {
	return req.GetSpec() == nil || len(req.GetSpec().GetArgv()) == 0 && fields.NamesProgram()
}

// refuseLater refuses what the wire can say and this release cannot do, instead
// of letting the task wait for something that never comes.
func refuseLater(s *task.Spec) error {
	if len(s.Needs) > 0 {
		return task.Errorf(task.CodeUnsupported, "waiting for services (needs) is not in this release yet")
	}
	return nil
}
