package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/dropfolder"
	"github.com/dspy-agent/dspy-agent/internal/mounts"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
	"github.com/dspy-agent/dspy-agent/queue"
)

// viaDrop is the word for tasks that came through the drop folder.
const viaDrop = "drop"

// dropTasks shows the server and the queue to the drop folder.
type dropTasks struct {
	server *api.Server
	mover  moverPort
	queue  *queue.Queue
}

var _ dropfolder.Tasks = dropTasks{}

// origin is what is kept with a task that came from a file.
type origin struct {
	Ticket string `json:"ticket"`
}

// Submit accepts tasks as every door does.
func (d dropTasks) Submit(ctx context.Context, subs []dropfolder.Submission) ([]dropfolder.Answer, error) {
	in := make([]api.Enclosed, len(subs))
	for i, s := range subs {
		extra, err := json.Marshal(origin{s.Ticket})
		if err != nil {
			return nil, fmt.Errorf("encode the ticket of a file: %w", err)
		}
		in[i] = api.Enclosed{Submission: s.Submission, Extra: extra}
	}
	accepted, err := d.server.SubmitEnclosed(ctx, rpc.Peer{UID: uint32(os.Geteuid()), Via: viaDrop}, in)
	if err != nil {
		return nil, err
	}
	out := make([]dropfolder.Answer, len(accepted))
	for i, a := range accepted {
		out[i] = dropfolder.Answer{Existing: a.Existing, Err: a.Err}
	}
	return out, nil
}

// Order accepts the task that a command on another host has ordered: the request that it
// would have made of us.
func (d dropTasks) Order(ctx context.Context, order json.RawMessage) error {
	req := &pb.SubmitTaskRequest{}
	if err := protojson.Unmarshal(order, req); err != nil {
		return task.Errorf(task.CodeInvalid, "the order cannot be read: %w", err)
	}
	return d.server.SubmitOrder(ctx, rpc.Peer{UID: uint32(os.Geteuid()), Via: viaDrop}, req)
}

// PutOrder leaves a submission in the drop folder, for an owner on another host. It is
// on disk when it returns. The request has an id.
func PutOrder(conf config.Config, req *pb.SubmitTaskRequest) error {
	order, err := protojson.Marshal(req)
	if err != nil {
		return fmt.Errorf("write the task as JSON: %w", err)
	}
	return dropfolder.PutOrder(conf.QueueDir, order)
}

// PutCancel leaves a cancel in the drop folder, in the same way.
func PutCancel(conf config.Config, id, by, reason string) error {
	return dropfolder.PutCancel(conf.QueueDir, id, by, reason)
}

// RejectedFiles counts the files of a drop folder that could not become tasks, and lie there
// for somebody to look at.
func RejectedFiles(queueDir string) (int, error) { return dropfolder.RejectedFiles(queueDir) }

// DropFolderTrouble says why the drop folder of a queue cannot be used; nil = it can, or is
// not there yet.
func DropFolderTrouble(queueDir string) error { return dropfolder.Check(queueDir) }

// Outcome tells how far a task is, and of one that was removed how it ended.
func (d dropTasks) Outcome(id string) (dropfolder.Outcome, error) {
	t, err := d.queue.Lookup(id)
	if gone, ok := errors.AsType[*queue.RemovedError](err); ok {
		return dropfolder.Outcome{State: gone.Final.State, EndedAt: gone.Final.EndedAt.Time()}, nil
	}
	if err != nil {
		return dropfolder.Outcome{}, err
	}
	result, err := d.queue.Result(t.Seq)
	if err != nil {
		return dropfolder.Outcome{}, err
	}
	s := t.Status()
	o := dropfolder.Outcome{State: s.State, EndedAt: s.EndedAt.Time(), Duration: t.Ran(s.EndedAt), Ticket: ticketOf(t)}
	if !s.State.Terminal() {
		return o, nil
	}
	members, failure := api.ResultOf(t, result)
	if o.Result, err = json.Marshal(members); err != nil {
		return dropfolder.Outcome{}, fmt.Errorf("encode the result of task %s: %w", id, err)
	}
	o.Error, o.SlurmJob = failure, jobs{}.Number(t)
	return o, nil
}

// ticketOf names the file from which a task came; "" = it came from none.
func ticketOf(t task.Task) string {
	var from origin
	if t.Spec.Via != viaDrop || json.Unmarshal(t.Spec.Extra, &from) != nil {
		return ""
	}
	return from.Ticket
}

// Cancel asks for the end of a task, as every door does.
func (d dropTasks) Cancel(ctx context.Context, id, by, reason string) error {
	_, err := d.mover.Cancel(ctx, id, by, reason)
	return err
}

// queueMount is what the queue's folder is on. Where that cannot be told, it is not
// known to be local.
func (a *App) queueMount() mounts.Mount {
	m, err := mounts.Of(a.conf.QueueDir)
	if err != nil {
		a.log.Warn("cannot tell what the queue is on, so it is taken for a file server", "dir", a.conf.QueueDir, "error", err)
	}
	return m
}

// ConfirmLease looks whether the queue still is ours.
func (d dropTasks) ConfirmLease() error { return d.queue.ConfirmLease() }

// newDropFolder makes the door of files.
func (a *App) newDropFolder() (*dropfolder.Folder, error) {
	return dropfolder.New(dropfolder.Options{
		Dir: a.conf.QueueDir, Tasks: dropTasks{a.server, moverPort{a.engine, a.queue}, a.queue}, Log: logPort{a.queue}, Origin: a.queue,
		Logger: a.log.With("component", "dropfolder"), Network: !a.queueMount().Local(),
	})
}
