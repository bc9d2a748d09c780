package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// What a durable submission cannot be faster than, measured in the same run: a gRPC
// call that does nothing, and a commit of nothing.

// echo is a server that answers submissions and does nothing else.
type echo struct {
	pb.UnimplementedOrchestratorServiceServer
}

func (echo) SubmitTask(context.Context, *pb.SubmitTaskRequest) (*pb.SubmitTaskResponse, error) {
	return &pb.SubmitTaskResponse{Success: true, TaskId: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Seq: 17}, nil
}

func (e echo) SubmitTasks(ctx context.Context, req *pb.SubmitTasksRequest) (*pb.SubmitTasksResponse, error) {
	reply := &pb.SubmitTasksResponse{}
	for _, one := range req.GetTasks() {
		answer, err := e.SubmitTask(ctx, one)
		if err != nil {
			return nil, err
		}
		reply.Results = append(reply.Results, answer)
	}
	return reply, nil
}

func (echo) SubmitTaskStream(in grpc.ClientStreamingServer[pb.SubmitTaskStreamRequest, pb.SubmitTaskStreamResponse]) error {
	reply := &pb.SubmitTaskStreamResponse{}
	for {
		message, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(reply)
		}
		if err != nil {
			return err
		}
		reply.Accepted += int64(len(message.GetTasks()))
	}
}

// playEcho is the role of an echo at an address.
func playEcho(input []byte) (any, error) {
	var addr string
	if err := json.Unmarshal(input, &addr); err != nil {
		return nil, err
	}
	lis, err := net.Listen("tcp4", addr)
	if err != nil {
		return nil, err
	}
	s := grpc.NewServer()
	pb.RegisterOrchestratorServiceServer(s, echo{})
	return nil, s.Serve(lis)
}

// startEcho starts an echo in a process of its own, as the daemon is one, which
// collects garbage as seldom as that. It is asked just as the daemon is.
func startEcho(b *testing.B) *ours {
	b.Helper()
	addr := "127.0.0.1:" + freePort(b)
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	input, err := json.Marshal(addr)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{roleVar + "=echo", "GOGC=400"}
	cmd.Stdin = strings.NewReader(string(input))
	serve(b, addr, cmd)
	return dialOurs(b, addr)
}

// bareCommits returns how many times a second a page can be written and synced
// twice in a row, as each commit of the queue does it, on the same file system.
func bareCommits(b *testing.B) float64 {
	b.Helper()
	f, err := os.Create(filepath.Join(peerDir(b), "bare"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var took time.Duration
	n := 0
	for ; took < time.Second; n++ {
		took += syncs(b, f, 2)
	}
	return float64(n) / took.Seconds()
}
