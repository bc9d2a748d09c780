package api_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func TestStopEndsStreamsWithAnErrorThatResumes(t *testing.T) {
	f := setup(t)
	f.submit("a")
	results := f.results(&pb.StreamTaskResultsRequest{})
	events := f.events(&pb.StreamEventsRequest{})
	logs := f.logs(&pb.StreamLogsRequest{TaskId: "a", Follow: true})
	waited := make(chan error, 1)
	go func() {
		_, err := f.WaitTask(f.ctx, &pb.WaitTaskRequest{TaskId: "a"})
		waited <- err
	}()
	f.run("b", 0, "") // so that all of them are under way
	recv(t, results)
	begun := time.Now()
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("the stop took %s", took)
	}
	_, err := results.Recv()
	wantCode(t, err, task.CodeUnavailable)
	for err = nil; err == nil; {
		_, err = events.Recv()
	}
	wantCode(t, err, task.CodeUnavailable)
	_, err = logs.Recv()
	wantCode(t, err, task.CodeUnavailable)
	wantCode(t, <-waited, task.CodeUnavailable)
}

// TestStopIsBounded has a stream whose reader does not read.
func TestStopIsBounded(t *testing.T) {
	f := setup(t, func(o *api.Options) { o.StopTimeout = time.Second })
	f.submit("a")
	f.begin("a")
	f.out.add(f.lookup("a").Ref(), strings.Repeat("x", 8<<20))
	recv(t, f.logs(&pb.StreamLogsRequest{TaskId: "a"}))
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestClientsThatGoAwayLeaveNothing(t *testing.T) {
	f := setup(t)
	f.submit("a")
	f.begin("a")
	for range 20 {
		ctx, cancel := context.WithCancel(f.ctx)
		c, err := api.Dial(ctx, api.Target{Socket: f.socket})
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.StreamLogs(ctx, &pb.StreamLogsRequest{TaskId: "a", Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		recv(t, s)
		cancel()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.stop(); err != nil { // waits for every call
		t.Fatal(err)
	}
	if f.out.open != 0 {
		t.Errorf("%d outputs are still open", f.out.open)
	}
}

func TestClientConnectsAgain(t *testing.T) {
	f := setup(t)
	f.submit("a")
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	_, err := f.GetTask(f.ctx, &pb.GetTaskRequest{TaskId: "a"})
	wantCode(t, err, task.CodeUnavailable)
	f.serve(f.options())
	_, err = f.client.GetTask(f.ctx, &pb.GetTaskRequest{TaskId: "a"}, grpc.WaitForReady(true))
	if err != nil {
		t.Error(err)
	}
}

func TestNoDaemon(t *testing.T) {
	dir := shortDir(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/dead", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	for _, socket := range []string{dir + "/none", dir + "/dead", dir + "/no/dir"} {
		_, err := api.Dial(t.Context(), api.Target{Socket: socket, Workspace: "/home/me/lab"})
		wantCode(t, err, task.CodeUnavailable)
		if !errors.Is(err, api.ErrNoDaemon) || err.Error() != "no daemon is running for workspace /home/me/lab; start one with: dspy-agent start --workspace /home/me/lab" {
			t.Errorf("got %v", err)
		}
	}
	_, err = api.Dial(t.Context(), api.Target{Socket: dir + "/" + strings.Repeat("x", 108)})
	wantCode(t, err, task.CodeInvalid)
	_, err = api.Dial(t.Context(), api.Target{Addr: "127.0.0.1:1"}) // nobody but root could listen there
	if wantCode(t, err, task.CodeUnavailable); !errors.Is(err, api.ErrNoDaemon) {
		t.Errorf("got %v", err)
	}
	_, err = api.Dial(t.Context(), api.Target{Addr: "192.0.2.1:50052"})
	wantCode(t, err, task.CodeInvalid) // it needs a certificate and a token
}

func TestProxyIsIgnored(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	setup(t).submit("a")
}

// TestStandardServices speaks to the socket as a program without our client does.
func TestStandardServices(t *testing.T) {
	f := setup(t)
	cc, err := grpc.NewClient("unix://"+f.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	health := grpc_health_v1.NewHealthClient(cc)
	check := func(want grpc_health_v1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for _, name := range []string{"", "orchestrator.v1.OrchestratorService"} {
			got, err := health.Check(f.ctx, &grpc_health_v1.HealthCheckRequest{Service: name})
			if err != nil || got.GetStatus() != want {
				t.Errorf("health of %q: %v, %v; want %s", name, got, err, want)
			}
		}
	}
	check(grpc_health_v1.HealthCheckResponse_SERVING)
	f.ill.Store(true)
	check(grpc_health_v1.HealthCheckResponse_NOT_SERVING)

	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	r, err := grpc_reflection_v1.NewServerReflectionClient(cc).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := &grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}
	if err := r.Send(ask); err != nil {
		t.Fatal(err)
	}
	answer := recv(t, r)
	var names []string
	for _, s := range answer.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	if got := strings.Join(names, " "); !strings.Contains(got, "orchestrator.v1.OrchestratorService") || !strings.Contains(got, "grpc.health.v1.Health") {
		t.Errorf("reflection lists %s", got)
	}
}

// rawCodec sends bytes that no generated client would.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (rawCodec) Unmarshal([]byte, any) error   { return nil }
func (rawCodec) Name() string                  { return "proto" }

func TestBrokenMessagesHurtNobody(t *testing.T) {
	f := setup(t)
	cc, err := grpc.NewClient("unix://"+f.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	for name, msg := range map[string][]byte{
		"broken UTF-8":  {0x0a, 0x02, 0xff, 0xfe},
		"broken length": {0x0a, 0x7f, 'x'},
		"noise":         []byte("\xde\xad\xbe\xef"),
	} {
		ctx := metadata.AppendToOutgoingContext(f.ctx, "x", "y")
		if err := cc.Invoke(ctx, pb.OrchestratorService_SubmitTask_FullMethodName, msg, nil, grpc.ForceCodec(rawCodec{})); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	f.submit("after-that")
}
