package api_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
	"github.com/dspy-agent/dspy-agent/queue"
)

// keeper is what internal/app makes of the engine and the queue.
type keeper struct{ q *queue.Queue }

// Release lets a held task go.
func (k keeper) Release(ctx context.Context, id, by string) (task.Task, bool, error) {
	t, err := k.q.Lookup(id)
	if err != nil {
		return task.Task{}, false, err
	}
	got, err := k.q.Apply(ctx, []task.Change{{Seq: t.Seq, Event: task.Event{Kind: task.EventHeld, Attempt: t.Attempt(), By: by}}})
	if err != nil {
		return task.Task{}, false, err
	}
	return got[0].Task, errors.Is(got[0].Err, task.ErrStale), nil
}

// CopyTo copies the database.
func (k keeper) CopyTo(ctx context.Context, write func(int64, []byte) error) (int64, string, error) {
	done, err := k.q.CopyTo(ctx, write, nil)
	return done.Bytes, done.QueueID, err
}

// TestBackupQueue: what is sent is a database with the tasks in it.
func TestBackupQueue(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.submit("a")
	stream, err := f.BackupQueue(f.ctx, &pb.BackupQueueRequest{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "backup.db")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	var last *pb.BackupQueueChunk
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if last = chunk; !chunk.GetDone() {
			if _, err := file.WriteAt(chunk.GetData(), chunk.GetOffset()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || !last.GetDone() || last.GetQueueId() != f.q.ID() || info.Size() != last.GetSize() {
		t.Fatalf("the end says %v, and there are %d bytes (%v)", last, info.Size(), err)
	}
	v, err := queue.VerifyFile(f.ctx, path, queue.Options{}, nil)
	if err != nil || !v.Sound() || v.Tasks != 1 {
		t.Errorf("the backup holds %+v (%v)", v, err)
	}
}

// TestReleaseTask: a held task is let go, and nobody else.
func TestReleaseTask(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.submit("a")
	held, err := f.q.Lookup("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.q.Apply(f.ctx, []task.Change{{Seq: held.Seq, Event: task.Event{Kind: task.EventHeld, Attempt: 1, Text: "restored"}}}); err != nil {
		t.Fatal(err)
	}
	if got, err := f.GetTask(f.ctx, &pb.GetTaskRequest{TaskId: "a"}); err != nil || got.GetHeld() != "restored" {
		t.Errorf("held is %q (%v)", got.GetHeld(), err)
	}
	for i := range 2 {
		got, err := f.ReleaseTask(f.ctx, &pb.ReleaseTaskRequest{TaskId: "a"})
		if err != nil || got.GetTask().GetHeld() != "" || got.GetAlready() != (i == 1) {
			t.Errorf("release %d: %v (%v)", i, got, err)
		}
	}
	if _, err := f.ReleaseTask(f.ctx, &pb.ReleaseTaskRequest{TaskId: "nobody"}); task.CodeOf(err) != task.CodeNotFound {
		t.Errorf("an unknown id: %v", err)
	}
	if _, err := f.ReleaseTask(f.ctx, &pb.ReleaseTaskRequest{}); task.CodeOf(err) != task.CodeInvalid {
		t.Errorf("no id: %v", err)
	}
}
