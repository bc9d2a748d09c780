package rpc_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

// service is one that has nothing to do with tasks.
type service struct {
	pb.UnimplementedEnvManagerServiceServer
	srv *rpc.Server
}

// StopServices has a fault.
func (service) StopServices(context.Context, *pb.StopServicesRequest) (*pb.StopServicesResponse, error) {
	panic("a fault")
}

// RestartService refuses.
func (service) RestartService(ctx context.Context, req *pb.RestartServiceRequest) (*pb.RestartServiceResponse, error) {
	who, _ := rpc.PeerFrom(ctx)
	return nil, task.Errorf(task.CodeNotFound, "no %s for %s", req.GetServiceName(), who.Via)
}

// StreamHealth goes on until the server stops.
func (s service) StreamHealth(_ *pb.StreamHealthRequest, out grpc.ServerStreamingServer[pb.HealthUpdate]) error {
	ctx, cancel := s.srv.UntilStop(out.Context())
	defer cancel()
	return s.srv.Guarded(out.Context(), func(g *rpc.Guard) error {
		if err := rpc.Send(g, out, &pb.HealthUpdate{ServiceName: "redis"}); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	})
}

// meter notes what was counted.
type meter struct {
	mu   sync.Mutex
	said []string
}

func (m *meter) note(s string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, s)
}

func (m *meter) RPC(method, code string)    { m.note(method + " " + code) }
func (m *meter) HTTP(path string, code int) { m.note(path + " " + http.StatusText(code)) }

// counted says whether something was counted so.
func (m *meter) counted(s string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.said, s)
}

const serviceName = "env_manager.v1.EnvManagerService"

// newServer makes a server of service.
func newServer(t *testing.T, m *meter) *rpc.Server {
	t.Helper()
	srv, err := rpc.New(rpc.Options{
		Program: "the other daemon", Services: []string{serviceName}, Healthy: func() bool { return true },
		Meter: m, Logger: slog.New(slog.DiscardHandler),
		Stopping:    task.Errorf(task.CodeUnavailable, "the other daemon is stopping"),
		SlowReader:  task.Errorf(task.CodeExhausted, "too slow"),
		StopTimeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	pb.RegisterEnvManagerServiceServer(srv, service{srv: srv})
	return srv
}

// TestAnotherService: what is promised of every server holds for one that is not the
// orchestrator's, in its own words.
func TestAnotherService(t *testing.T) {
	t.Parallel()
	var m meter
	srv := newServer(t, &m)
	socket := filepath.Join(shortDir(t), "s")
	lis, err := rpc.ListenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, lis) }()
	c, err := rpc.Dial(t.Context(), rpc.Target{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	client := pb.NewEnvManagerServiceClient(c.Conn())

	_, err = client.RestartService(t.Context(), &pb.RestartServiceRequest{ServiceName: "redis"})
	wantCode(t, err, task.CodeNotFound)
	wantWords(t, err, "no redis for socket")
	_, err = client.StopServices(t.Context(), &pb.StopServicesRequest{})
	wantCode(t, err, task.CodeInternal)
	wantWords(t, err, "this call met a fault of the other daemon; its log has more")
	for _, want := range []string{serviceName + "/RestartService NotFound", serviceName + "/StopServices Internal"} {
		if !m.counted(want) {
			t.Errorf("%s was not counted: %v", want, m.said)
		}
	}
	health := grpc_health_v1.NewHealthClient(c.Conn())
	if got, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: serviceName}); err != nil || got.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", got, err)
	}
	_, err = health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "orchestrator.v1.OrchestratorService"})
	wantCode(t, err, task.CodeNotFound)

	s, err := client.StreamHealth(t.Context(), &pb.StreamHealthRequest{})
	if err == nil {
		_, err = s.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	stop()
	_, err = s.Recv()
	wantCode(t, err, task.CodeUnavailable)
	wantWords(t, err, "the other daemon is stopping")
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestAbsentServer: the error says what the caller has to say of its own server.
func TestAbsentServer(t *testing.T) {
	t.Parallel()
	_, err := rpc.Dial(t.Context(), rpc.Target{Socket: filepath.Join(shortDir(t), "s"), Wording: rpc.Wording{Absent: "start the other daemon"}})
	wantCode(t, err, task.CodeUnavailable)
	wantWords(t, err, "start the other daemon")
	if !errors.Is(err, rpc.ErrNoDaemon) {
		t.Errorf("got %v", err)
	}
}

// TestHTTPRoutes: a route is answered behind the guard, to a peer that is known; what is
// none is refused, and a fault is one request's.
func TestHTTPRoutes(t *testing.T) {
	t.Parallel()
	var m meter
	known := true
	h, err := rpc.NewHTTP(newServer(t, &m), []rpc.Route{
		{Method: http.MethodGet, Path: "/health", Answer: func(w http.ResponseWriter, _ *http.Request) error {
			return rpc.AnswerOK(w, map[string]string{"status": "ok"})
		}},
		{Method: http.MethodGet, Path: "/fault", Answer: func(http.ResponseWriter, *http.Request) error { panic("a fault") }},
	}, rpc.HTTPOptions{
		Peer: func(*http.Request) (rpc.Peer, bool) { return rpc.Peer{}, known },
		Guard: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Guarded", "yes")
				next.ServeHTTP(w, r)
			})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, lis) }()
	var want []string
	for _, c := range []struct {
		method, path string
		unknown      bool
		status       int
		says         string
		counted      string
	}{
		{"GET", "/health", false, 200, `{"status":"ok"}`, "/health OK"},
		{"POST", "/health", false, 405, "/health does not take POST; it takes GET, HEAD", "/health Method Not Allowed"},
		{"GET", "/queue/status", false, 404, "there is no /queue/status here; there are /fault, /health", " Not Found"},
		{"GET", "/fault", false, 500, "this request met a fault of the other daemon; its log has more", "/fault Internal Server Error"},
		{"GET", "/health", true, 403, "it is not known who sends this request", "/health Forbidden"},
	} {
		known = !c.unknown
		status, header, body := ask(t, c.method, "http://"+lis.Addr().String()+c.path)
		if status != c.status || !strings.Contains(body, c.says) || header.Get("Guarded") != "yes" {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, body)
		}
		want = append(want, c.counted)
	}
	stop()
	if err := <-served; err != nil { // and all is counted
		t.Error(err)
	}
	slices.Sort(m.said)
	slices.Sort(want)
	if !slices.Equal(m.said, want) {
		t.Errorf("counted were %q, want %q", m.said, want)
	}
}

func ask(t *testing.T, method, url string) (status int, header http.Header, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(data)
}

// TestUntilStopBeforeServe: HTTP may answer before gRPC is served.
func TestUntilStopBeforeServe(t *testing.T) {
	t.Parallel()
	srv := newServer(t, &meter{})
	until, cancel := srv.UntilStop(t.Context())
	defer cancel()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := srv.Serve(ctx); err != nil {
		t.Error(err)
	}
	<-until.Done()
	wantWords(t, context.Cause(until), "the other daemon is stopping")
}
