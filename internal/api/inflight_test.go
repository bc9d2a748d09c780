package api_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// slowQueue takes submissions, and answers when it is told to.
type slowQueue struct {
	queuePort
	entered chan struct{}
	answer  chan struct{} // closed
}

func (q slowQueue) Submit(ctx context.Context, specs []*task.Spec) ([]api.Accepted, error) {
	q.entered <- struct{}{}
	<-q.answer
	return q.queuePort.Submit(ctx, specs)
}

// TestSubmissionsAreBoundedInBytes has large submissions come while a commit takes
// long: a few are given to the queue, some wait, and the rest is sent away.
func TestSubmissionsAreBoundedInBytes(t *testing.T) {
	q := slowQueue{entered: make(chan struct{}, 100), answer: make(chan struct{})}
	f := setup(t, func(o *api.Options) {
		q.queuePort = o.Queue.(queuePort)
		o.Queue, o.MaxSubmitBytes = q, 1<<20
	})
	large := strings.Repeat("x", 300<<10)
	send := func(ctx context.Context, id string) error {
		_, err := f.SubmitTask(ctx, &pb.SubmitTaskRequest{Id: id, Payload: map[string]string{"x": large}})
		return err
	}
	sent := make(chan error, 100)
	var all sync.WaitGroup
	begin := func(id string) { all.Go(func() { sent <- send(f.ctx, id) }) }
	for i := range 3 {
		begin(fmt.Sprint("first", i))
		<-q.entered
	}
	// There is no room for a fourth, and it does not wait longer than its caller.
	brief, cancel := context.WithTimeout(f.ctx, 50*time.Millisecond)
	defer cancel()
	if err := send(brief, "impatient"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a submission that found no room ended with %v", err)
	}
	// As many as there may be in memory; 13 of 300 KiB are four times 1 MiB.
	for i := range 30 {
		begin(fmt.Sprint("more", i))
	}
	for range 30 - 10 {
		if err := <-sent; task.CodeOf(err) != task.CodeUnavailable {
			t.Fatalf("one too much ended with %v", err)
		}
	}
	if n := len(q.entered); n != 0 {
		t.Errorf("%d more were given to the queue", n)
	}
	close(q.answer)
	for range 3 + 10 {
		if err := <-sent; err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	if err := send(f.ctx, "later"); err != nil { // all the room is there again
		t.Error(err)
	}
}

// TestStreamsAreHeldBack: a stream of submissions waits for room, and is not sent
// away for want of it.
func TestStreamsAreHeldBack(t *testing.T) {
	f := setup(t, func(o *api.Options) { o.MaxSubmitBytes = 64 << 10 })
	stream, err := f.SubmitTaskStream(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	const n = 50
	for i := range n {
		req := &pb.SubmitTaskRequest{Id: fmt.Sprint("t", i), Payload: map[string]string{"x": strings.Repeat("x", 30<<10)}}
		if err := stream.Send(&pb.SubmitTaskStreamRequest{Tasks: []*pb.SubmitTaskRequest{req}}); err != nil {
			t.Fatal(err)
		}
	}
	if reply, err := stream.CloseAndRecv(); err != nil || reply.GetAccepted() != n {
		t.Errorf("got %v, %v", reply, err)
	}
}
