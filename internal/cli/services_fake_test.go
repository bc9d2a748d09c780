package cli

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

// fakeEnvManager is an env-manager that cares for nothing: it says what a test has it say.
type fakeEnvManager struct {
	pb.UnimplementedEnvManagerServiceServer

	mu     sync.Mutex
	phases []string // of all services, one for each time that somebody asks; the last one stays
	asked  []string // calls, with their names

	services map[string]*pb.ServiceStatus
	updates  []*pb.ServiceStatusUpdate // of a start
	goesOn   bool                      // a start or a log does not end by itself
	saidAll  chan struct{}             // has one for each stream that goes on, and has said all
	results  map[string]string         // of StopServices
	restart  map[string]string         // by service: why not
	pulls    []*pb.ImagePullProgress
	logs     map[string][]*pb.LogEntry
}

// startFakeEnvManager serves a user of its own, and returns the environment that leads there.
func startFakeEnvManager(t *testing.T) (*fakeEnvManager, Env) {
	t.Helper()
	env := testEnv(t)
	cfg, err := config.Load(config.Given{Cwd: env.Cwd, Lookup: env.getenv})
	if err != nil {
		t.Fatal(err)
	}
	path, err := app.EnvManagerSocket(cfg)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeEnvManager{services: map[string]*pb.ServiceStatus{}, logs: map[string][]*pb.LogEntry{}, saidAll: make(chan struct{}, 10)}
	srv := grpc.NewServer()
	pb.RegisterEnvManagerServiceServer(srv, f)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return f, env
}

// has says how a service is.
func (f *fakeEnvManager) has(name, word, phase, reason string) *pb.ServiceStatus {
	v := &pb.ServiceStatus{Name: name, Status: word, HealthChecks: map[string]string{"phase": phase}}
	if reason != "" {
		v.HealthChecks["reason"] = reason
	}
	f.services[name] = v
	return v
}

func (f *fakeEnvManager) ask(what string, names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, strings.TrimSpace(what+" "+strings.Join(names, " ")))
}

func (f *fakeEnvManager) calls(what string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, call := range f.asked {
		if strings.HasPrefix(call, what) {
			n++
		}
	}
	return n
}

func (f *fakeEnvManager) GetServicesStatus(_ context.Context, req *pb.GetServicesStatusRequest) (*pb.ServicesStatusResponse, error) {
	f.ask("status", req.GetServiceNames())
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := &pb.ServicesStatusResponse{Services: map[string]*pb.ServiceStatus{}}
	for name := range f.services {
		if names := req.GetServiceNames(); len(names) == 0 || slices.Contains(names, name) {
			answer.Services[name] = f.services[name]
		}
	}
	for _, name := range req.GetServiceNames() {
		if f.services[name] == nil {
			return nil, status.Errorf(codes.NotFound, "there is no such service: %q; there are redis, kafka", name)
		}
	}
	if len(f.phases) > 0 {
		for _, v := range answer.Services {
			v.HealthChecks["phase"] = f.phases[0]
		}
		f.phases = f.phases[min(1, len(f.phases)-1):]
	}
	return answer, nil
}

func (f *fakeEnvManager) StartServices(req *pb.StartServicesRequest, out grpc.ServerStreamingServer[pb.ServiceStatusUpdate]) error {
	f.ask("start", req.GetServiceNames())
	for _, u := range f.updates {
		if err := out.Send(u); err != nil {
			return err
		}
	}
	return f.hold(out.Context())
}

// hold keeps a stream open where it goes on.
func (f *fakeEnvManager) hold(ctx context.Context) error {
	if !f.goesOn {
		return nil
	}
	f.saidAll <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func (f *fakeEnvManager) StopServices(_ context.Context, req *pb.StopServicesRequest) (*pb.StopServicesResponse, error) {
	f.ask("stop", req.GetServiceNames())
	answer := &pb.StopServicesResponse{Success: true, ServiceResults: f.results}
	for _, result := range f.results {
		answer.Success = answer.Success && result == "stopped"
	}
	return answer, nil
}

func (f *fakeEnvManager) RestartService(_ context.Context, req *pb.RestartServiceRequest) (*pb.RestartServiceResponse, error) {
	f.ask("restart", []string{req.GetServiceName()})
	if why := f.restart[req.GetServiceName()]; why != "" {
		return &pb.RestartServiceResponse{Message: why}, nil
	}
	return &pb.RestartServiceResponse{Success: true, Message: "ready 1s after its start"}, nil
}

func (f *fakeEnvManager) PullImages(req *pb.PullImagesRequest, out grpc.ServerStreamingServer[pb.ImagePullProgress]) error {
	f.ask("pull", req.GetImageNames())
	for _, p := range f.pulls {
		if err := out.Send(p); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeEnvManager) StreamLogs(req *pb.StreamLogsRequest, out grpc.ServerStreamingServer[pb.LogEntry]) error {
	lines, ok := f.logs[req.GetServiceName()]
	if !ok {
		return status.Errorf(codes.NotFound, "there is no such service: %q; there are redis, kafka", req.GetServiceName())
	}
	if n := int(req.GetTail()); n > 0 {
		lines = lines[max(len(lines)-n, 0):]
	}
	for _, e := range lines {
		if err := out.Send(e); err != nil {
			return err
		}
	}
	if !req.GetFollow() {
		return nil
	}
	return f.hold(out.Context())
}

// usersOf returns the built-in services that need one.
func usersOf(t *testing.T, env Env, name string) []string {
	t.Helper()
	cfg, err := config.Load(config.Given{Cwd: env.Cwd, Lookup: env.getenv})
	if err != nil {
		t.Fatal(err)
	}
	defined, err := app.DefineServices(t.Context(), cfg, env.Environ)
	if err != nil {
		t.Fatal(err)
	}
	return defined.Users([]string{name})
}
