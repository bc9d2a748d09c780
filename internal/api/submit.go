package api

import (
	"context"

	"github.com/dspy-agent/dspy-agent/internal/payload"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// MaxBatch is how many tasks one SubmitTasks may carry: they share one commit,
// and everybody else waits for it.
const MaxBatch = 10_000

// SubmitTask accepts one task.
func (s service) SubmitTask(ctx context.Context, req *pb.SubmitTaskRequest) (*pb.SubmitTaskResponse, error) {
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
	answers, err := s.submit(ctx, req.GetTasks())
	if err != nil {
		return nil, err
	}
	return &pb.SubmitTasksResponse{Results: answers}, nil
}

// submit answers every request, in order: those that cannot become a spec at
// once, the others with what the queue says.
func (s service) submit(ctx context.Context, reqs []*pb.SubmitTaskRequest) ([]*pb.SubmitTaskResponse, error) {
	answers := make([]*pb.SubmitTaskResponse, len(reqs))
	specs := make([]*task.Spec, 0, len(reqs))
	place := make([]int, 0, len(reqs)) // of each spec among the answers
	who, _ := PeerFrom(ctx)
	for i, req := range reqs {
		spec, err := s.resolve(req, who)
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
	for i, a := range accepted {
		answers[place[i]] = acceptedTo(specs[i].ID, a)
	}
	return answers, nil
}

// resolve makes the spec of a submission, or says why it is refused. The queue
// validates it, gives it an id where it has none, and dates it.
func (s service) resolve(req *pb.SubmitTaskRequest, who Peer) (*task.Spec, error) {
	class, err := s.opts.Class(req.GetClass())
	if err != nil {
		return nil, err
	}
	spec, err := specFrom(req.GetSpec())
	if err != nil {
		return nil, err
	}
	spec.ID, spec.Name, spec.Class, spec.Priority = req.GetId(), req.GetName(), class.Name, req.GetPriority()
	spec.WorkflowID = req.GetWorkflowId()
	spec.SubmitUID, spec.Via = who.UID, who.Via
	if err := fillProgram(spec, req); err != nil {
		return nil, err
	}
	if spec.Dir == "" && spec.Builtin == "" {
		spec.Dir = s.opts.Workspace
	}
	if spec.Timeout == 0 {
		spec.Timeout = class.Timeout
	}
	return spec, refuseLater(spec)
}

// fillProgram merges the two payloads of a request, and reads from them what to
// run unless the spec says it.
func fillProgram(spec *task.Spec, req *pb.SubmitTaskRequest) error {
	below, err := payload.Parse(req.GetSpec().GetPayloadJson())
	if err != nil {
		return err
	}
	fields := payload.FromText(req.GetPayload()).Over(below)
	if spec.Payload, err = fields.JSON(); err != nil {
		return err
	}
	// A spec says itself what to run; one that says nothing may leave it to the
	// payload, but never comes to be echoed.
	if req.GetSpec() != nil && (len(spec.Argv) > 0 || !fields.NamesCommand()) {
		return nil
	}
	return payload.Resolve(fields, spec)
}

// refuseLater refuses what the wire can say and this release cannot do, instead
// of letting the task wait for something that never comes.
func refuseLater(s *task.Spec) error {
	r := s.Resources
	switch {
	case s.Image != "":
		return task.Errorf(task.CodeUnsupported, "running a container image is not in this release yet; submit the command without an image")
	case r.GPUs > 0 || r.GPUMem > 0 || r.GPUModel != "" || r.MIG != "":
		return task.Errorf(task.CodeUnsupported, "GPU scheduling is not in this release yet; select GPUs yourself with the variable CUDA_VISIBLE_DEVICES")
	case len(s.Needs) > 0:
		return task.Errorf(task.CodeUnsupported, "waiting for services (needs) is not in this release yet")
	}
	return nil
}
