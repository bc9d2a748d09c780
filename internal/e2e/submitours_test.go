package e2e

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// ours is a server of our calls.
type ours struct {
	cpu   func() float64 // what the server has used, in seconds; nil = nobody asks
	conns []*grpc.ClientConn
	next  atomic.Int64 // for the next caller's connection
	ids   atomic.Int64 // for the tasks of streams, which need one
}

// startOurs starts a daemon whose class is paused, so that it does nothing but
// accept.
func startOurs(b *testing.B) *ours {
	b.Helper()
	d := openDoors(b)
	o := dialOurs(b, d.grpc)
	o.cpu = d.cpuSeconds
	if _, err := pb.NewOrchestratorServiceClient(o.conns[0]).PauseClass(b.Context(), &pb.PauseClassRequest{Class: "cpu_short"}); err != nil {
		b.Fatal(err)
	}
	return o
}

func dialOurs(b *testing.B, addr string) *ours {
	b.Helper()
	o := &ours{}
	for range 4 {
		o.conns = append(o.conns, dialDoor(b, addr))
	}
	return o
}

// newRequest is a task with that id; "" has the daemon make one.
func (o *ours) newRequest(id string) *pb.SubmitTaskRequest {
	return &pb.SubmitTaskRequest{
		Id: id, Class: "cpu_short",
		Spec: &pb.TaskSpec{Argv: []string{"/bin/true"}, Dir: "/", PayloadJson: []byte(payloadOfBench)},
	}
}

func (o *ours) open(_ *testing.B, l load) (func() error, func()) {
	c := pb.NewOrchestratorServiceClient(o.conns[int(o.next.Add(1))%len(o.conns)])
	end := func() {}
	switch {
	case l.stream:
		return func() error { return o.putStream(c, l.batch) }, end
	case l.batch == 1:
		req := o.newRequest("")
		return func() error {
			got, err := c.SubmitTask(context.Background(), req)
			if err == nil && !got.GetSuccess() {
				err = fmt.Errorf("refused: %s", got.GetError())
			}
			return err
		}, end
	default:
		req := &pb.SubmitTasksRequest{}
		for range l.batch {
			req.Tasks = append(req.Tasks, o.newRequest(""))
		}
		return func() error { return putBatch(c, req) }, end
	}
}

func putBatch(c pb.OrchestratorServiceClient, req *pb.SubmitTasksRequest) error {
	got, err := c.SubmitTasks(context.Background(), req)
	if err != nil {
		return err
	}
	if got, want := len(got.GetResults()), len(req.GetTasks()); got != want {
		return fmt.Errorf("%d answers to %d tasks", got, want)
	}
	for _, r := range got.GetResults() {
		if !r.GetSuccess() {
			return fmt.Errorf("refused: %s", r.GetError())
		}
	}
	return nil
}

// putStream sends n tasks over a stream, some hundreds in a message.
func (o *ours) putStream(c pb.OrchestratorServiceClient, n int) error {
	const message = 500
	stream, err := c.SubmitTaskStream(context.Background())
	if err != nil {
		return err
	}
	for sent := 0; sent < n; {
		req := &pb.SubmitTaskStreamRequest{}
		for ; len(req.GetTasks()) < message && sent < n; sent++ {
			req.Tasks = append(req.Tasks, o.newRequest("s"+strconv.FormatInt(o.ids.Add(1), 10)))
		}
		if err := stream.Send(req); err != nil {
			break // CloseAndRecv tells why
		}
	}
	got, err := stream.CloseAndRecv()
	if err == nil && got.GetAccepted() != int64(n) {
		err = fmt.Errorf("%d of %d tasks were accepted", got.GetAccepted(), n)
	}
	return err
}
