package api_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// TestSubmitStream sends more tasks than one commit takes, some of them bad, and
// then all of them again.
func TestSubmitStream(t *testing.T) {
	f := setup(t)
	const n = 2500
	send := func() *pb.SubmitTaskStreamResponse {
		t.Helper()
		s, err := f.SubmitTaskStream(f.ctx)
		if err != nil {
			t.Fatal(err)
		}
		message := &pb.SubmitTaskStreamRequest{}
		for i := range n {
			req := &pb.SubmitTaskRequest{Id: fmt.Sprintf("s%d", i), Spec: &pb.TaskSpec{Argv: []string{"true"}}}
			switch i {
			case 7:
				req.Id = ""
			case 1900:
				req.Class = "none"
			}
			message.Tasks = append(message.Tasks, req)
			if len(message.Tasks) < 1+i%7 && i < n-1 {
				continue
			}
			if err := s.Send(message); err != nil {
				t.Fatal(err)
			}
			message.Reset()
		}
		reply, err := s.CloseAndRecv()
		if err != nil {
			t.Fatal(err)
		}
		if len(reply.GetRefusals()) != 2 || reply.GetRefusals()[0].GetPosition() != 7 || reply.GetRefusals()[1].GetPosition() != 1900 {
			t.Errorf("refused are %v", reply.GetRefusals())
		}
		return reply
	}
	first := send()
	if first.GetAccepted() != n-2 || first.GetExisting() != 0 || first.GetRefused() != 2 {
		t.Errorf("got %v", first)
	}
	if hint := first.GetRefusals()[0].GetAnswer().GetError(); !strings.Contains(hint, "needs an id") {
		t.Errorf("without an id: %q", hint)
	}
	if got := f.q.Counts().Total(task.Pending); got != n-2 {
		t.Errorf("%d tasks are there", got)
	}
	again := send()
	if again.GetAccepted() != 0 || again.GetExisting() != n-2 || again.GetRefused() != 2 {
		t.Errorf("sent again: %v", again)
	}
}

// TestSubmitStreamBreaks ends a stream in the middle: what was committed stays,
// and the rest was never there.
func TestSubmitStreamBreaks(t *testing.T) {
	f := setup(t)
	s, err := f.SubmitTaskStream(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	events := f.events(&pb.StreamEventsRequest{})
	if err := s.Send(&pb.SubmitTaskStreamRequest{Tasks: []*pb.SubmitTaskRequest{{Id: "one"}}}); err != nil {
		t.Fatal(err)
	}
	recv(t, events) // it is on disk before the stream has ended
	go func() { _ = f.stop() }()
	if _, err := s.CloseAndRecv(); err != nil && status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	f.lookup("one")
}
