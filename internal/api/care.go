package api

import (
	"context"

	"google.golang.org/grpc"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// Keeper is what the server needs to look after the queue on behalf of a person.
type Keeper interface {
	// Release lets a held task go; already says that it was not held. An id that is
	// unknown is answered with CodeNotFound, a task that has ended with CodeConflict.
	Release(ctx context.Context, id, by string) (t task.Task, already bool, err error)
	// CopyTo copies the database as it is at one moment. write is called with pieces
	// of it in no order, some places more than once; a piece is only valid during the
	// call, and how long write takes holds up nobody else.
	CopyTo(ctx context.Context, write func(offset int64, piece []byte) error) (size int64, queueID string, err error)
}

// ReleaseTask lets a held task go.
func (s service) ReleaseTask(ctx context.Context, req *pb.ReleaseTaskRequest) (*pb.ReleaseTaskResponse, error) {
	if req.GetTaskId() == "" {
		return nil, task.Errorf(task.CodeInvalid, "task_id is empty")
	}
	who, _ := rpc.PeerFrom(ctx)
	t, already, err := s.opts.Keeper.Release(ctx, req.GetTaskId(), who.String())
	if err != nil {
		return nil, err
	}
	return &pb.ReleaseTaskResponse{Task: taskTo(t), Already: already}, nil
}

// BackupQueue sends a copy of the queue's database.
func (s service) BackupQueue(_ *pb.BackupQueueRequest, out grpc.ServerStreamingServer[pb.BackupQueueChunk]) error {
	// Each reads the whole file and keeps a sum of every page.
	if !s.copying.TryLock() {
		return task.Errorf(task.CodeExhausted, "a copy of the queue is being made already; try again when that is done")
	}
	defer s.copying.Unlock()
	ctx, cancel := s.rpc.UntilStop(out.Context())
	defer cancel()
	return s.rpc.Guarded(out.Context(), func(g *rpc.Guard) error {
		size, id, err := s.opts.Keeper.CopyTo(ctx, func(offset int64, piece []byte) error {
			return rpc.Send(g, out, &pb.BackupQueueChunk{Offset: offset, Data: piece})
		})
		if err != nil {
			return err
		}
		return rpc.Send(g, out, &pb.BackupQueueChunk{Done: true, Size: size, QueueId: id})
	})
}
