package api_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/envmgr/api"
	"github.com/dspy-agent/dspy-agent/envmgr/probe"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stage is a supervisor whose snapshots a test makes, and an engine of which nothing is
// there but what a test says.
type stage struct {
	mu      sync.Mutex
	snap    envmgr.Snapshot
	changed chan struct{}
	asked   []string

	images map[string]bool
	logs   []docker.Entry
	asks   int // for usage
}

func (s *stage) set(all ...envmgr.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snap = envmgr.Snapshot{Serial: s.snap.Serial + 1, Services: all}
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stage) ask(what string, names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, what+" "+strings.Join(names, ","))
}

func (s *stage) Up(_ context.Context, names ...string) error { s.ask("up", names); return nil }

func (s *stage) Down(_ context.Context, names ...string) ([]string, error) {
	s.ask("down", names)
	return names, nil
}

func (s *stage) Restart(_ context.Context, names ...string) error {
	s.ask("restart", names)
	return nil
}

func (s *stage) Latest() (envmgr.Snapshot, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snap, s.changed
}

func (s *stage) Wait(ctx context.Context, done func(envmgr.Snapshot) bool) (envmgr.Snapshot, error) {
	for {
		snap, changed := s.Latest()
		if done(snap) {
			return snap, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return snap, context.Cause(ctx)
		}
	}
}

func (s *stage) Usage(context.Context, string) (docker.Usage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asks++
	return docker.Usage{CPU: time.Second, MemBytes: 7, RxBytes: 8, TxBytes: 9}, nil
}

func (s *stage) Logs(_ context.Context, _ string, o docker.LogOptions, take func(docker.Entry) error, _ func() error) error {
	lines := s.logs
	if o.Tail > 0 {
		lines = lines[max(len(lines)-o.Tail, 0):]
	}
	for _, e := range lines {
		if e.At.Before(o.Since) {
			continue
		}
		if err := take(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) Pull(_ context.Context, ref string, progress func(docker.Progress)) error {
	if ref == "missing:1" {
		return docker.ErrNoImage
	}
	progress(docker.Progress{Current: 1, Total: 4})
	return nil
}

func (s *stage) Image(_ context.Context, ref string) (docker.Image, error) {
	if s.images[ref] {
		return docker.Image{}, nil
	}
	return docker.Image{}, docker.ErrNoImage
}

// dial serves the stage's services, redis and node, which needs redis.
func (s *stage) dial(t *testing.T) pb.EnvManagerServiceClient {
	t.Helper()
	s.changed = make(chan struct{})
	set, err := envmgr.NewSet([]envmgr.Definition{
		{Name: "redis", Image: "redis:7", Ready: probe.Spec{Kind: probe.None}},
		{Name: "node", Image: "node:1", Ready: probe.Spec{Kind: probe.None}, Needs: []envmgr.Need{{Name: "redis"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	lis := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	pb.RegisterEnvManagerServiceServer(server, api.New(api.Options{Supervisor: s, Set: set, Engine: s, Logger: slog.New(slog.DiscardHandler)}))
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(lis) })
	conn, err := grpc.NewClient("passthrough:///stage", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); server.Stop(); wg.Wait() })
	return pb.NewEnvManagerServiceClient(conn)
}

var began = time.Unix(1_700_000_000, 0)

func status(name string, p envmgr.Phase, reason string) envmgr.Status {
	return envmgr.Status{
		Name: name, Image: name + ":1", Phase: p, Reason: reason, Container: "id-of-" + name, Started: began, ReadyAt: began.Add(time.Second),
		Ports: []docker.Published{{Address: "127.0.0.1", Host: 6379, Inside: 6379}, {Address: "::1", Host: 6379, Inside: 6379}},
	}
}

// TestStartServices: what is needed is told of too, each change once, to the end.
func TestStartServices(t *testing.T) {
	t.Parallel()
	var s stage
	c := s.dial(t)
	s.set(status("redis", envmgr.Probing, ""), status("node", envmgr.Waiting, "redis, which it needs, is starting"))
	stream, err := c.StartServices(t.Context(), &pb.StartServicesRequest{ServiceNames: []string{"node"}})
	if err != nil {
		t.Fatal(err)
	}
	next := func(name, word string) *pb.ServiceStatusUpdate {
		t.Helper()
		u, err := stream.Recv()
		if err != nil || u.GetServiceName() != name || u.GetStatus() != word {
			t.Fatalf("got %v, %v; want %s %s", u, err, name, word)
		}
		return u
	}
	next("redis", "starting")
	next("node", "starting")
	s.set(status("redis", envmgr.Ready, ""), status("node", envmgr.Waiting, "redis, which it needs, is starting"))
	if u := next("redis", "healthy"); u.GetProgress() != 100 || u.GetMessage() != "ready 1s after its start" {
		t.Errorf("it says %v", u)
	}
	s.set(status("redis", envmgr.Ready, ""), status("node", envmgr.Failed, "it ended 8 times"))
	if u := next("node", "failed"); u.GetMessage() != "it ended 8 times" {
		t.Errorf("it says %v", u)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	if s.asked[0] != "up node" {
		t.Errorf("asked for %v", s.asked)
	}
}

// TestRefusals: what cannot be done is said, and nothing is asked for.
func TestRefusals(t *testing.T) {
	t.Parallel()
	var s stage
	c := s.dial(t)
	ctx := t.Context()
	start := func(req *pb.StartServicesRequest) error {
		stream, err := c.StartServices(ctx, req)
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	_, status := c.GetServicesStatus(ctx, &pb.GetServicesStatusRequest{ServiceNames: []string{"redsi"}})
	_, stop := c.StopServices(ctx, &pb.StopServicesRequest{ServiceNames: []string{"redsi"}})
	for what, err := range map[string]error{
		"start": start(&pb.StartServicesRequest{ServiceNames: []string{"redsi"}}), "status": status, "stop": stop,
		"overrides": start(&pb.StartServicesRequest{Overrides: map[string]string{"redis.image": "x"}}),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
			continue
		}
		if msg := err.Error(); !strings.Contains(msg, "there are node, redis") && !strings.Contains(msg, "the configuration says") {
			t.Errorf("%s: %s", what, msg)
		}
	}
	if len(s.asked) > 0 {
		t.Errorf("asked for %v", s.asked)
	}
}

// TestStopAndRestart: success is what has come to be in the time that was given.
func TestStopAndRestart(t *testing.T) {
	t.Parallel()
	var s stage
	c := s.dial(t)
	s.set(status("redis", envmgr.Stopped, ""), status("node", envmgr.Stopping, "waits for x"))
	got, err := c.StopServices(t.Context(), &pb.StopServicesRequest{TimeoutSeconds: 1})
	if err != nil || got.GetSuccess() || got.GetServiceResults()["redis"] != "stopped" || got.GetServiceResults()["node"] != "not yet: waits for x" {
		t.Errorf("stop: %v, %v", got, err)
	}
	s.set(status("redis", envmgr.Ready, ""))
	done := make(chan *pb.RestartServiceResponse)
	go func() {
		r, err := c.RestartService(t.Context(), &pb.RestartServiceRequest{ServiceName: "redis"})
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	for asked := false; !asked; {
		s.mu.Lock()
		asked = len(s.asked) == 2
		s.mu.Unlock()
	}
	later := status("redis", envmgr.Ready, "")
	later.Started = began.Add(time.Minute)
	s.set(later)
	if r := <-done; !r.GetSuccess() {
		t.Errorf("restart: %v", r)
	}
}

// TestStatus: everything that is known, and the engine is not asked again for each call.
func TestStatus(t *testing.T) {
	t.Parallel()
	var s stage
	c := s.dial(t)
	s.set(status("redis", envmgr.Ready, ""), status("node", envmgr.Blocked, "there is a container node that is not ours"))
	for range 100 {
		got, err := c.GetServicesStatus(t.Context(), &pb.GetServicesStatusRequest{ServiceNames: []string{"redis"}})
		if err != nil {
			t.Fatal(err)
		}
		r := got.GetServices()["redis"]
		if len(got.GetServices()) != 1 || r.GetStatus() != "running" || r.GetContainerId() != "id-of-redis" || len(r.GetPorts()) != 1 ||
			r.GetStartedAt() != began.Unix() || r.GetResourceUsage().GetMemoryBytes() != 7 || r.GetHealthChecks()["phase"] != "ready" {
			t.Fatalf("got %v", r)
		}
	}
	if s.asks > 5 {
		t.Errorf("the engine was asked %d times", s.asks)
	}
}

// TestStreamHealth: a change is told at once, long before the interval is over.
func TestStreamHealth(t *testing.T) {
	t.Parallel()
	var s stage
	c := s.dial(t)
	s.set(status("redis", envmgr.Ready, ""), status("node", envmgr.Ready, ""))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := c.StreamHealth(ctx, &pb.StreamHealthRequest{IntervalSeconds: 3600})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if u, err := stream.Recv(); err != nil || !u.GetHealthy() {
			t.Fatalf("got %v, %v", u, err)
		}
	}
	s.set(status("redis", envmgr.Degraded, "it does not answer"), status("node", envmgr.Ready, ""))
	if u, err := stream.Recv(); err != nil || u.GetHealthy() || u.GetServiceName() != "redis" || u.GetMessage() != "it does not answer" {
		t.Errorf("got %v, %v", u, err)
	}
}

// TestPullAndLogs: progress and errors of each image; lines with their stream, from
// where they were asked for.
func TestPullAndLogs(t *testing.T) {
	t.Parallel()
	s := stage{images: map[string]bool{"redis:7": true}}
	for i, text := range []string{"one\n", "two\n", "three\xff\n"} {
		s.logs = append(s.logs, docker.Entry{At: began.Add(time.Duration(i) * time.Second), Stderr: i == 1, Text: []byte(text)})
	}
	c := s.dial(t)
	s.set(status("redis", envmgr.Ready, ""))
	pull, err := c.PullImages(t.Context(), &pb.PullImagesRequest{ImageNames: []string{"redis:7", "missing:1", "other:1"}})
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]*pb.ImagePullProgress{}
	for {
		p, err := pull.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last[p.GetImageName()] = p
	}
	if last["redis:7"].GetStatus() != "complete" || last["other:1"].GetProgressPercent() != 100 || last["missing:1"].GetStatus() != "error" || last["missing:1"].GetMessage() == "" {
		t.Errorf("got %v", last)
	}
	logs, err := c.StreamLogs(t.Context(), &pb.StreamLogsRequest{ServiceName: "redis", Tail: 2})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for {
		e, err := logs.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, e.GetStream()+": "+e.GetMessage())
	}
	if got := strings.Join(lines, "; "); got != "stderr: two; stdout: three\uFFFD" {
		t.Errorf("got %q", got)
	}
}
