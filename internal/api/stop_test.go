package api_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// TestStopOfReflection: a tool that keeps its stream open does not hold up a stop.
func TestStopOfReflection(t *testing.T) {
	f := setup(t, func(o *api.Options) { o.StopTimeout = time.Minute })
	cc, err := grpc.NewClient("unix://"+f.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	s, err := grpc_reflection_v1.NewServerReflectionClient(cc).ServerReflectionInfo(f.ctx)
	if err == nil {
		err = s.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}})
	}
	if err != nil {
		t.Fatal(err)
	}
	recv(t, s)
	begun := time.Now()
	if err := f.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("the stop took %s", took)
	}
	if _, err := s.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v", err)
	}
}

// TestStopLeavesBehindWhatHangs has a call that does not end with its connection,
// as one at a disk that does not answer.
func TestStopLeavesBehindWhatHangs(t *testing.T) {
	q := slowQueue{entered: make(chan struct{}, 1), answer: make(chan struct{})}
	f := setup(t)
	q.queuePort = queuePort{f.q}
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	opts := f.options()
	opts.Queue, opts.StopTimeout = q, 50*time.Millisecond
	f.serve(opts)
	stop := f.stop
	f.stop = func() error { return nil } // this test looks at the error itself
	done := make(chan error, 1)
	go func() {
		_, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Id: "a"}, grpc.WaitForReady(true))
		done <- err
	}()
	<-q.entered
	if err := stop(); !errors.Is(err, rpc.ErrLeftBehind) {
		t.Errorf("the stop ended with %v", err)
	}
	wantCode(t, <-done, task.CodeUnavailable)
	close(q.answer)
}

// awaitingQueue takes submissions, and answers when their callers have left.
type awaitingQueue struct {
	queuePort
	entered chan struct{}
}

func (q awaitingQueue) Submit(ctx context.Context, _ []*task.Spec) ([]api.Accepted, error) {
	q.entered <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestStopOfASubmissionStream: its client learns that it can send all of it again,
// also if the stream was just being written.
func TestStopOfASubmissionStream(t *testing.T) {
	q := awaitingQueue{entered: make(chan struct{}, 1)}
	f := setup(t, func(o *api.Options) { o.Queue = q })
	s, err := f.SubmitTaskStream(f.ctx)
	if err == nil {
		err = s.Send(&pb.SubmitTaskStreamRequest{Tasks: []*pb.SubmitTaskRequest{{Id: "a"}}})
	}
	if err != nil {
		t.Fatal(err)
	}
	<-q.entered
	if err := f.stop(); err != nil {
		t.Error(err)
	}
	_, err = s.CloseAndRecv()
	wantCode(t, err, task.CodeUnavailable)
}

// panickingQueue has a fault.
type panickingQueue struct{ queuePort }

func (panickingQueue) Submit(context.Context, []*task.Spec) ([]api.Accepted, error) { panic("a fault") }

func (panickingQueue) Removed(string) (task.Final, error) { panic("a fault") }

// TestAPanicEndsOneCall: the other calls, and the daemon, go on.
func TestAPanicEndsOneCall(t *testing.T) {
	f := setup(t, func(o *api.Options) { o.Queue = panickingQueue{o.Queue.(queuePort)} })
	_, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Id: "a"})
	wantCode(t, err, task.CodeInternal)
	s, err := f.StreamTaskResults(f.ctx, &pb.StreamTaskResultsRequest{TaskIds: []string{"x"}})
	if err == nil {
		_, err = s.Recv()
	}
	wantCode(t, err, task.CodeInternal)
	if _, err := f.Health(f.ctx, &pb.HealthRequest{}); err != nil {
		t.Error(err)
	}
}

// TestRefusalsAreLoggedSparsely: whoever fails at the handshake again and again
// does not fill the log.
func TestRefusalsAreLoggedSparsely(t *testing.T) {
	said := make(logged, 1000)
	f := setup(t)
	addr, _, _ := f.secured(func(o *api.Options) { o.Logger = slog.New(said) })
	for range 50 {
		c, err := (&net.Dialer{}).DialContext(f.ctx, "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		everything(t, c)
		_ = c.Close()
	}
	if n := len(said); n == 0 || n > 5 {
		t.Errorf("%d lines for 50 refused connections", n)
	}
}

// TestAWrongTokenIsARefusal: not a fault of the server's.
func TestAWrongTokenIsARefusal(t *testing.T) {
	f := setup(t)
	addr, cert, _ := f.secured()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := api.Dial(t.Context(), api.Target{Addr: ":" + port, Cert: cert, Token: access.Token{}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Health(t.Context(), &pb.HealthRequest{})
	wantCode(t, err, task.CodeConflict)
	wantWords(t, err, "dspy-agent access token")
}
