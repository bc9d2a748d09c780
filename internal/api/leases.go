package api

import (
	"context"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// errNoWorkers is the answer where nobody hands out tasks.
var errNoWorkers = task.Errorf(task.CodeUnavailable, "no daemon runs that hands out tasks; start one, and ask again")

// leaseCaller says which worker calls. Whoever has a worker's secret is that worker.
func (s service) leaseCaller(ctx context.Context, worker string) error {
	if s.opts.Workers == nil {
		return errNoWorkers
	}
	return workerAs(ctx, worker)
}

func workerAs(ctx context.Context, worker string) error {
	if worker == "" {
		return task.Errorf(task.CodeInvalid, "worker is empty")
	}
	if p, ok := access.PeerFrom(ctx); ok && p.Scope != "" && p.Scope != worker {
		return task.Errorf(task.CodeInvalid, "the secret of worker %s is not that of worker %q", p.Scope, worker)
	}
	return nil
}

// LeaseTasks hands out attempts.
func (s service) LeaseTasks(ctx context.Context, req *pb.LeaseTasksRequest) (*pb.LeaseTasksResponse, error) {
	if err := s.leaseCaller(ctx, req.GetWorker()); err != nil {
		return nil, err
	}
	ctx, cancel := s.rpc.UntilStop(ctx)
	defer cancel()
	r, err := leaseTasks(ctx, s.opts.Workers, req)
	return r, stopped(ctx, err)
}

// ExtendLease says that a worker lives, and answers with its orders.
func (s service) ExtendLease(ctx context.Context, req *pb.ExtendLeaseRequest) (*pb.ExtendLeaseResponse, error) {
	if err := s.leaseCaller(ctx, req.GetWorker()); err != nil {
		return nil, err
	}
	ctx, cancel := s.rpc.UntilStop(ctx)
	defer cancel()
	r, err := extendLease(ctx, s.opts.Workers, req)
	return r, stopped(ctx, err)
}

// CompleteTask takes reports.
func (s service) CompleteTask(ctx context.Context, req *pb.CompleteTaskRequest) (*pb.CompleteTaskResponse, error) {
	if err := s.leaseCaller(ctx, req.GetWorker()); err != nil {
		return nil, err
	}
	ctx, cancel := s.rpc.UntilStop(ctx)
	defer cancel()
	r, err := completeTask(ctx, s.opts.Workers, req)
	return r, stopped(ctx, err)
}

// stopped says why a call ended that the stop of the server ended.
func stopped(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

func leaseTasks(ctx context.Context, owner lease.Owner, req *pb.LeaseTasksRequest) (*pb.LeaseTasksResponse, error) {
	g, err := owner.Lease(ctx, lease.Want{Worker: req.GetWorker(), Room: int(req.GetRoom()), Hold: int(req.GetHold()), Wait: waitOf(req.GetWaitMs()), Seen: req.GetSeen()})
	if err != nil {
		return nil, err
	}
	return grantTo(g), nil
}

func extendLease(ctx context.Context, owner lease.Owner, req *pb.ExtendLeaseRequest) (*pb.ExtendLeaseResponse, error) {
	o, err := owner.Extend(ctx, lease.Hold{Worker: req.GetWorker(), Seen: req.GetSeen(), Wait: waitOf(req.GetWaitMs()), Leased: req.GetLeased(), Waiting: refsFrom(req.GetWaiting())})
	if err != nil {
		return nil, err
	}
	return &pb.ExtendLeaseResponse{Serial: o.Serial, Stop: refsTo(o.Stop), Leave: o.Leave}, nil
}

func completeTask(ctx context.Context, owner lease.Owner, req *pb.CompleteTaskRequest) (*pb.CompleteTaskResponse, error) {
	reports, err := reportsFrom(req.GetReports())
	if err != nil {
		return nil, err
	}
	settled, err := owner.Complete(ctx, req.GetWorker(), reports)
	if err != nil {
		return nil, err
	}
	return &pb.CompleteTaskResponse{Settled: refsTo(settled)}, nil
}

func waitOf(ms int64) time.Duration {
	return time.Duration(min(max(ms, 0), time.Hour.Milliseconds())) * time.Millisecond
}

// AnswerWorker answers a call that came through files as if it had come by a connection.
func AnswerWorker(ctx context.Context, owner lease.Owner, c lease.Call) lease.Reply {
	answer, err := answerWorker(ctx, owner, c)
	if err == nil {
		var body []byte
		if body, err = proto.Marshal(answer); err == nil {
			return lease.Reply{Body: body}
		}
	}
	st, _ := status.FromError(rpc.ToStatus(err))
	body, err := proto.Marshal(st.Proto())
	if err != nil {
		body = nil // an empty status is no success either
	}
	return lease.Reply{Failed: true, Body: body}
}

func answerWorker(ctx context.Context, owner lease.Owner, c lease.Call) (proto.Message, error) {
	switch c.Method {
	case pb.OrchestratorService_LeaseTasks_FullMethodName:
		var req pb.LeaseTasksRequest
		if err := readCall(c, &req); err != nil {
			return nil, err
		}
		return leaseTasks(ctx, owner, &req)
	case pb.OrchestratorService_ExtendLease_FullMethodName:
		var req pb.ExtendLeaseRequest
		if err := readCall(c, &req); err != nil {
			return nil, err
		}
		return extendLease(ctx, owner, &req)
	case pb.OrchestratorService_CompleteTask_FullMethodName:
		var req pb.CompleteTaskRequest
		if err := readCall(c, &req); err != nil {
			return nil, err
		}
		return completeTask(ctx, owner, &req)
	default:
		return nil, task.Errorf(task.CodeUnsupported, "a worker cannot call %q", c.Method)
	}
}

func readCall(c lease.Call, into proto.Message) error {
	if err := proto.Unmarshal(c.Body, into); err != nil {
		return task.Errorf(task.CodeInvalid, "what a worker asks cannot be read: %w", err)
	}
	return nil
}

// IsWorkerCall says whether a method is one that a worker's secret opens.
func IsWorkerCall(method string) bool {
	switch method {
	case pb.OrchestratorService_LeaseTasks_FullMethodName, pb.OrchestratorService_ExtendLease_FullMethodName, pb.OrchestratorService_CompleteTask_FullMethodName:
		return true
	}
	return false
}

// workerScope lets workers in by their secrets, for their calls.
func workerScope(admit func(word string) (worker string, ok bool)) func(method, word string) (scope string, ok bool) {
	if admit == nil {
		return nil
	}
	return func(method, word string) (string, bool) {
		if !IsWorkerCall(method) {
			return "", false
		}
		return admit(word)
	}
}
