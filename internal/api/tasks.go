package api

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// GetTaskStatus is the contract's short form of GetTask.
func (s service) GetTaskStatus(_ context.Context, req *pb.GetTaskStatusRequest) (*pb.GetTaskStatusResponse, error) {
	t, result, err := s.lookup(req.GetTaskId())
	if err != nil {
		return nil, err
	}
	return statusTo(t, result), nil
}

// GetTask tells everything that is known about a task.
func (s service) GetTask(_ context.Context, req *pb.GetTaskRequest) (*pb.TaskInfo, error) {
	t, result, err := s.lookup(req.GetTaskId())
	if err != nil {
		return nil, err
	}
	return s.whole(t, result), nil
}

// GetTasks tells of many tasks at once.
func (s service) GetTasks(ctx context.Context, req *pb.GetTasksRequest) (*pb.GetTasksResponse, error) {
	if n := len(req.GetTaskIds()); n > maxPage {
		return nil, task.Errorf(task.CodeInvalid, "task_ids has %d ids; at most %d are allowed", n, maxPage)
	}
	details := s.waitDetails()
	reply := &pb.GetTasksResponse{}
	for _, id := range req.GetTaskIds() {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		t, err := s.opts.Queue.Lookup(id)
		switch code := task.CodeOf(err); {
		case errors.Is(err, task.ErrDamaged):
			continue // GetTask says what is wrong with it, and the others are not to suffer
		case err != nil && (code == task.CodeNotFound || code == task.CodeInvalid): // no id, so nobody's
			reply.Unknown = append(reply.Unknown, id)
			continue
		case err != nil:
			return nil, err
		}
		p := taskTo(t)
		if err := details.note(p, t); err != nil {
			return nil, err
		}
		reply.Tasks = append(reply.Tasks, p)
	}
	return reply, nil
}

// WaitTask answers when the task has ended.
func (s service) WaitTask(ctx context.Context, req *pb.WaitTaskRequest) (*pb.TaskInfo, error) {
	ctx, cancel := s.rpc.UntilStop(ctx)
	defer cancel()
	t, _, err := s.lookup(req.GetTaskId())
	if err != nil {
		return nil, err
	}
	changed, forget := s.feed.watch(t.Seq)
	defer forget()
	// Looked up again after the watch began, so that no change falls between.
	for {
		t, result, err := s.lookup(req.GetTaskId())
		if err != nil {
			return nil, err
		}
		if t.State().Terminal() {
			return s.whole(t, result), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// lookup returns the task with that id, and its result once it has ended.
func (s service) lookup(id string) (task.Task, task.Result, error) {
	if id == "" {
		return task.Task{}, nil, task.Errorf(task.CodeInvalid, "task_id is empty")
	}
	t, err := s.opts.Queue.Lookup(id)
	if err != nil || !t.State().Terminal() {
		return t, nil, err
	}
	result, err := s.opts.Queue.Result(t.Seq)
	return t, result, err
}

// whole converts a task with all there is to know.
func (s service) whole(t task.Task, result task.Result) *pb.TaskInfo {
	p := taskTo(t)
	s.waitDetails().notePause(p)
	p.Spec = specTo(t.Spec)
	p.ResultJson = result
	if t.Spec.Builtin == "" { // else no program writes into one
		p.LogPath = text(s.opts.Outputs.Path(t, t.Attempt()))
	}
	return p
}

// CancelTask stores the wish to end a task.
func (s service) CancelTask(ctx context.Context, req *pb.CancelTaskRequest) (*pb.CancelTaskResponse, error) {
	if req.GetTaskId() == "" {
		return nil, task.Errorf(task.CodeInvalid, "task_id is empty")
	}
	who, _ := rpc.PeerFrom(ctx)
	t, err := s.opts.Mover.Cancel(ctx, req.GetTaskId(), who.String(), req.GetReason())
	if err != nil {
		return nil, err
	}
	return &pb.CancelTaskResponse{Task: taskTo(t)}, nil
}

// RetryTask gives a task another attempt.
func (s service) RetryTask(ctx context.Context, req *pb.RetryTaskRequest) (*pb.RetryTaskResponse, error) {
	if req.GetTaskId() == "" {
		return nil, task.Errorf(task.CodeInvalid, "task_id is empty")
	}
	who, _ := rpc.PeerFrom(ctx)
	t, err := s.opts.Mover.Retry(ctx, req.GetTaskId(), who.String())
	if err != nil {
		return nil, err
	}
	return &pb.RetryTaskResponse{Task: taskTo(t)}, nil
}

// ExplainTask says why a task is where it is.
func (s service) ExplainTask(ctx context.Context, req *pb.ExplainTaskRequest) (*pb.ExplainTaskResponse, error) {
	if req.GetTaskId() == "" {
		return nil, task.Errorf(task.CodeInvalid, "task_id is empty")
	}
	reason, t, err := s.opts.Mover.Explain(ctx, req.GetTaskId())
	if err != nil {
		return nil, err
	}
	if lacks := s.lacks(t); lacks != "" {
		reason = "waiting in vain: " + lacks // whatever else it waits for
	}
	return &pb.ExplainTaskResponse{Reason: text(reason), Task: taskTo(t)}, nil
}

// Bounds of a page of a listing.
const (
	maxPage      = 10_000
	maxPageBytes = rpc.MaxMessageBytes / 4
	// readPage is how many tasks are taken from the queue at once: they come with
	// their specs and leave without.
	readPage = 500
)

// ListTasks lists tasks, newest first, a page at a time. A page ends early when
// it grows too large for a message; the next one begins where it ended.
func (s service) ListTasks(ctx context.Context, req *pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
	f, err := filterFrom(req)
	if err != nil {
		return nil, err
	}
	want, size := f.Limit, 0
	details := s.waitDetails()
	reply := &pb.ListTasksResponse{}
	for ctx.Err() == nil {
		f.Limit = min(want-len(reply.Tasks), readPage)
		tasks, next, err := s.opts.Queue.List(f)
		if err != nil {
			return nil, err
		}
		for _, t := range tasks {
			p := taskTo(t)
			if err := details.note(p, t); err != nil {
				return nil, err
			}
			size += proto.Size(p)
			reply.Tasks = append(reply.Tasks, p)
			if size > maxPageBytes {
				reply.NextBeforeSeq = p.GetSeq()
				return reply, nil
			}
		}
		if next == 0 || len(reply.Tasks) >= want {
			reply.NextBeforeSeq = uint64(next)
			if next == 0 {
				reply.DamagedIds = s.opts.Queue.Unreadable()
			}
			return reply, nil
		}
		f.Before = next
	}
	return nil, ctx.Err()
}

// filterFrom converts the filter of a listing. A name that is both a state and a
// status ("pending", "running", "failed") means the state; "completed" is only a
// status.
func filterFrom(req *pb.ListTasksRequest) (task.Filter, error) {
	f := task.Filter{
		Class: req.GetClass(), Before: task.Seq(req.GetBeforeSeq()), Limit: int(req.GetLimit()),
		IDPrefix: req.GetIdPrefix(), Name: req.GetNameContains(),
	}
	switch {
	case f.Limit == 0:
		f.Limit = task.DefaultLimit
	case f.Limit < 0 || f.Limit > maxPage:
		return f, task.Errorf(task.CodeInvalid, "limit is %d; it must be between 1 and %d", f.Limit, maxPage)
	}
	for _, name := range req.GetStates() {
		state, ok := task.ParseState(name)
		if name == task.WireCompleted {
			state, ok = task.Succeeded, true
		}
		if !ok {
			return f, task.Errorf(task.CodeInvalid, "unknown state %q; known are %s", name, stateNames())
		}
		f.States = append(f.States, state)
	}
	return f, nil
}

func stateNames() string {
	names := make([]string, 0, len(task.States)+1)
	for _, s := range task.States {
		names = append(names, s.String())
	}
	return strings.Join(append(names, task.WireCompleted), ", ")
}
