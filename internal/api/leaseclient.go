package api

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// LeaseOwner is the owner of the queue at the other end of a connection.
type LeaseOwner struct{ client pb.OrchestratorServiceClient }

var _ lease.Owner = LeaseOwner{}

// NewLeaseOwner makes one over a connection, such as Client.Conn or a FileConn.
func NewLeaseOwner(conn grpc.ClientConnInterface) LeaseOwner {
	return LeaseOwner{pb.NewOrchestratorServiceClient(conn)}
}

// answerWithin is how long an answer may take, beside the time that the call waits.
const answerWithin = 20 * time.Second

// Lease asks for attempts.
func (o LeaseOwner) Lease(ctx context.Context, w lease.Want) (lease.Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, w.Wait+answerWithin)
	defer cancel()
	m, err := o.client.LeaseTasks(ctx, &pb.LeaseTasksRequest{Worker: w.Worker, Room: int32(w.Room), Hold: int32(w.Hold), WaitMs: w.Wait.Milliseconds(), Seen: w.Seen})
	if err != nil {
		return lease.Grant{}, err
	}
	return grantFrom(m)
}

// Extend asks for orders.
func (o LeaseOwner) Extend(ctx context.Context, h lease.Hold) (lease.Orders, error) {
	ctx, cancel := context.WithTimeout(ctx, h.Wait+answerWithin)
	defer cancel()
	m, err := o.client.ExtendLease(ctx, &pb.ExtendLeaseRequest{Worker: h.Worker, Seen: h.Seen, WaitMs: h.Wait.Milliseconds(), Leased: h.Leased, Waiting: refsTo(h.Waiting)})
	if err != nil {
		return lease.Orders{}, err
	}
	return lease.Orders{Serial: m.GetSerial(), Stop: refsFrom(m.GetStop()), Leave: m.GetLeave()}, nil
}

// Complete reports.
func (o LeaseOwner) Complete(ctx context.Context, worker string, reports []lease.Report) ([]task.Ref, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*answerWithin)
	defer cancel()
	m, err := o.client.CompleteTask(ctx, &pb.CompleteTaskRequest{Worker: worker, Reports: reportsTo(reports)})
	if err != nil {
		return nil, err
	}
	return refsFrom(m.GetSettled()), nil
}

// FileConn is a connection through the files of a worker's folder. Run reads the answers.
type FileConn struct {
	files *lease.Outbox

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan lease.Reply
}

// NewFileConn makes one. The folder has to be there.
func NewFileConn(f lease.Folder) *FileConn {
	return &FileConn{files: lease.NewOutbox(f), waiting: map[uint64]chan lease.Reply{}}
}

// Pauses between two looks for answers: while somebody waits for one, and else.
const (
	readOften  = 20 * time.Millisecond
	readSeldom = 200 * time.Millisecond
)

// Run hands answers to those who wait for them, until ctx ends.
func (c *FileConn) Run(ctx context.Context) error {
	for {
		replies, err := c.files.Replies()
		c.deliver(replies)
		pause := readOften
		if err != nil || !c.awaited() {
			pause = readSeldom
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

func (c *FileConn) awaited() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting) > 0
}

func (c *FileConn) deliver(replies []lease.Reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range replies {
		if ch, ok := c.waiting[r.ID]; ok {
			ch <- r // of capacity 1
			delete(c.waiting, r.ID)
		}
	}
}

// Invoke makes one call.
func (c *FileConn) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	in, ok := args.(proto.Message)
	out, ok2 := reply.(proto.Message)
	if !ok || !ok2 {
		return errors.New("a call through files takes messages")
	}
	body, err := proto.Marshal(in)
	if err != nil {
		return err
	}
	answer := make(chan lease.Reply, 1)
	c.mu.Lock()
	c.last++
	id := c.last
	err = c.files.Ask(lease.Call{ID: id, Waiting: slices.Sorted(maps.Keys(c.waiting)), Method: method, Body: body})
	c.waiting[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, id)
	}()
	if err != nil {
		return task.Errorf(task.CodeUnavailable, "the folder of this worker cannot be written: %w", err)
	}
	select {
	case r := <-answer:
		return readReply(r, out)
	case <-ctx.Done():
		return task.Errorf(task.CodeUnavailable, "the owner of the queue does not answer: %w", ctx.Err())
	}
}

func readReply(r lease.Reply, out proto.Message) error {
	if !r.Failed {
		return proto.Unmarshal(r.Body, out)
	}
	var st status.Status
	if err := proto.Unmarshal(r.Body, &st); err != nil || st.GetCode() == 0 {
		return task.Errorf(task.CodeInternal, "the owner of the queue refused a call, and its reason cannot be read")
	}
	return rpc.FromStatus(grpcstatus.FromProto(&st).Err())
}

// NewStream is for streams, of which a worker has none.
func (c *FileConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, task.Errorf(task.CodeUnsupported, "there are no streams through files")
}
