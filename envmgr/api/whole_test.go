package api_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/envmgr/api"
	"github.com/dspy-agent/dspy-agent/envmgr/enginetest"
	"github.com/dspy-agent/dspy-agent/envmgr/probe"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

// reader keeps what a stream of answers sends.
type reader[T any] struct {
	grpc.ServerStream
	ctx context.Context
	got []*T
}

func (r *reader[T]) Context() context.Context { return r.ctx }
func (r *reader[T]) Send(m *T) error          { r.got = append(r.got, m); return nil }

// engine is enginetest's, with what the API asks for beside that.
type engine struct {
	*enginetest.Engine
	stage
}

func (e *engine) Logs(ctx context.Context, name string, o docker.LogOptions, take func(docker.Entry) error, idle func() error) error {
	return e.Engine.Logs(ctx, name, o, take, idle)
}

func (e *engine) Pull(ctx context.Context, ref string, progress func(docker.Progress)) error {
	return e.Engine.Pull(ctx, ref, progress)
}

func (e *engine) Image(ctx context.Context, ref string) (docker.Image, error) {
	return e.Engine.Image(ctx, ref)
}

// whole runs a test on the API with a supervisor below it, and an engine that is not there.
func whole(t *testing.T, test func(t *testing.T, s *api.Service, e *enginetest.Engine)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set, err := envmgr.NewSet([]envmgr.Definition{
			{Name: "redis", Image: "redis:7", Required: true, Ready: probe.Spec{Kind: probe.None}},
			{Name: "node", Image: "node:1", Ready: probe.Spec{Kind: probe.None}, Needs: []envmgr.Need{{Name: "redis"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		e := &enginetest.Engine{}
		log := slog.New(slog.DiscardHandler)
		slowly := func() time.Time { // so that whoever does not wait for a decision is before it
			time.Sleep(time.Millisecond)
			return time.Now()
		}
		sup := envmgr.New(envmgr.Options{Engine: e, Set: set, Site: "s", Network: "n", Policy: envmgr.Defaults(), Logger: log, Now: slowly})
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error)
		go func() { over <- sup.Run(ctx) }()
		synctest.Wait()
		test(t, api.New(api.Options{Supervisor: sup, Set: set, Engine: &engine{Engine: e}, Logger: log}), e)
		cancel()
		if err := <-over; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func start(t *testing.T, s *api.Service, names ...string) (words string) {
	t.Helper()
	r := &reader[pb.ServiceStatusUpdate]{ctx: t.Context()}
	if err := s.StartServices(&pb.StartServicesRequest{ServiceNames: names}, r); err != nil {
		t.Fatal(err)
	}
	last := map[string]string{}
	for _, u := range r.got {
		last[u.GetServiceName()] = u.GetStatus() + " " + u.GetMessage()
	}
	return last["redis"] + "; " + last["node"]
}

// TestTheWholeWay: a start is told of to its end, from that call on and not from before it;
// so are a restart of one that has failed, and a stop.
func TestTheWholeWay(t *testing.T) {
	whole(t, func(t *testing.T, s *api.Service, e *enginetest.Engine) {
		e.Before(func(_ context.Context, call, what string) error {
			if call == "CreateService" && what == "node" {
				return docker.ErrInvalid
			}
			return nil
		})
		if got := start(t, s, "node"); !strings.Contains(got, "healthy ready") || !strings.Contains(got, "; failed "+docker.ErrInvalid.Error()) {
			t.Errorf("got %s", got)
		}
		e.Before(nil)
		got, err := s.RestartService(t.Context(), &pb.RestartServiceRequest{ServiceName: "node"})
		if err != nil || !got.GetSuccess() {
			t.Errorf("restart: %v, %v", got, err)
		}
		again, err := s.RestartService(t.Context(), &pb.RestartServiceRequest{ServiceName: "node"})
		if err != nil || !again.GetSuccess() || e.Calls("Start") != 3 {
			t.Errorf("restart: %v, %v, after %d starts", got, err, e.Calls("Start"))
		}
		stopped, err := s.StopServices(t.Context(), &pb.StopServicesRequest{})
		if err != nil || !stopped.GetSuccess() || e.Calls("Stop") != 3 {
			t.Errorf("stop: %v, %v, after %d stops", stopped, err, e.Calls("Stop"))
		}
	})
}

// TestStartThatComesToNothing: who waits for a start does not wait for ever.
func TestStartThatComesToNothing(t *testing.T) {
	whole(t, func(t *testing.T, s *api.Service, e *enginetest.Engine) {
		e.Before(func(_ context.Context, call, _ string) error {
			if call == "Start" {
				return fmt.Errorf("%w: 6379", docker.ErrPortTaken)
			}
			return nil
		})
		if got := start(t, s); !strings.Contains(got, "unhealthy the port is taken: 6379") || !strings.Contains(got, "; unhealthy redis, which it needs") {
			t.Errorf("got %s", got)
		}
		e.Before(nil)
		e.Lose(docker.ErrAway)
		if got := start(t, s); !strings.Contains(got, "unhealthy "+docker.ErrAway.Error()) {
			t.Errorf("got %s", got)
		}
		none, err := s.GetServicesStatus(t.Context(), &pb.GetServicesStatusRequest{})
		if err != nil || none.GetServices()["node"].GetStatus() == "failed" {
			t.Errorf("got %v, %v", none, err)
		}
	})
}

// TestEngineClockIsSetBack: a restart is one, though the engine says that it was earlier.
func TestEngineClockIsSetBack(t *testing.T) {
	whole(t, func(t *testing.T, s *api.Service, e *enginetest.Engine) {
		start(t, s)
		e.After(func(_ context.Context, call, _ string) error {
			if call == "Start" {
				e.Change("node", func(c *docker.Service) { c.Started = c.Started.Add(-time.Hour) })
			}
			return nil
		})
		time.Sleep(time.Minute) // in a synctest bubble
		got, err := s.RestartService(t.Context(), &pb.RestartServiceRequest{ServiceName: "node", TimeoutSeconds: 10})
		if err != nil || !got.GetSuccess() {
			t.Errorf("restart: %v, %v", got, err)
		}
	})
}

// TestPullWithoutNames: the images of what is required.
func TestPullWithoutNames(t *testing.T) {
	whole(t, func(t *testing.T, s *api.Service, _ *enginetest.Engine) {
		r := &reader[pb.ImagePullProgress]{ctx: t.Context()}
		if err := s.PullImages(&pb.PullImagesRequest{}, r); err != nil || len(r.got) != 1 || r.got[0].GetImageName() != "redis:7" {
			t.Errorf("got %v, %v", r.got, err)
		}
	})
}

// TestNoOrchestrator: where there is none that is said.
func TestNoOrchestrator(t *testing.T) {
	t.Parallel()
	s := api.New(api.Options{Engine: &stage{}})
	_, err := s.ExecuteTask(t.Context(), &pb.ExecuteTaskRequest{})
	_, also := s.GetResourceAvailability(t.Context(), &pb.GetResourceAvailabilityRequest{})
	if task.CodeOf(err) != task.CodeUnavailable || task.CodeOf(also) != task.CodeUnavailable {
		t.Errorf("got %v, %v", err, also)
	}
}

// fragile is an engine of which a test says what comes of the calls that the API makes.
type fragile struct {
	stage
	usage func(ctx context.Context) (docker.Usage, error)
	logs  func(id string, take func(docker.Entry) error) error
}

func (f *fragile) Usage(ctx context.Context, _ string) (docker.Usage, error) { return f.usage(ctx) }

func (f *fragile) Logs(_ context.Context, id string, _ docker.LogOptions, take func(docker.Entry) error, _ func() error) error {
	return f.logs(id, take)
}

func (f *fragile) serve(t *testing.T) *api.Service {
	t.Helper()
	set, err := envmgr.NewSet([]envmgr.Definition{{Name: "redis", Image: "redis:7", Ready: probe.Spec{Kind: probe.None}}})
	if err != nil {
		t.Fatal(err)
	}
	f.changed = make(chan struct{})
	f.set(status("redis", envmgr.Ready, ""))
	return api.New(api.Options{Supervisor: f, Set: set, Engine: f})
}

// TestUsageOfAHangingEngine: many callers wait for one answer together, none for that of
// another, whoever goes away is no answer to the others, and where the engine is known to
// be away it is not asked.
func TestUsageOfAHangingEngine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asks := 0
		f := &fragile{usage: func(ctx context.Context) (docker.Usage, error) {
			asks++
			<-ctx.Done()
			return docker.Usage{}, ctx.Err()
		}}
		s := f.serve(t)
		began := time.Now()
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if got, err := s.GetServicesStatus(t.Context(), &pb.GetServicesStatusRequest{}); err != nil || got.GetServices()["redis"].GetResourceUsage() != nil {
					t.Errorf("got %v, %v", got, err)
				}
			})
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		synctest.Wait()
		wg.Go(func() {
			_, _ = s.GetServicesStatus(impatient, &pb.GetServicesStatusRequest{})
			if took := time.Since(began); took > time.Second {
				t.Errorf("who has a second waits for %v", took)
			}
		})
		wg.Wait()
		if took := time.Since(began); asks != 1 || took > 3*time.Second {
			t.Errorf("the engine was asked %d times within %v", asks, took)
		}
		f.mu.Lock()
		f.snap.Away = "the engine is away"
		f.mu.Unlock()
		time.Sleep(time.Minute)
		if _, err := s.GetServicesStatus(t.Context(), &pb.GetServicesStatusRequest{}); err != nil || asks != 1 {
			t.Errorf("the engine was asked %d times (%v)", asks, err)
		}
	})
}

// TestUsageAfterAnError: a percentage is of the time between the two readings that there
// were, and that a caller goes away is no error.
func TestUsageAfterAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var cpu time.Duration
		var fails error
		f := &fragile{usage: func(ctx context.Context) (docker.Usage, error) {
			return docker.Usage{CPU: cpu}, errors.Join(fails, ctx.Err())
		}}
		s := f.serve(t)
		percent := func(ctx context.Context) float64 {
			t.Helper()
			got, err := s.GetServicesStatus(ctx, &pb.GetServicesStatusRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if u := got.GetServices()["redis"].GetResourceUsage(); u != nil {
				return u.GetCpuPercent()
			}
			return -1
		}
		one := status("redis", envmgr.Ready, "")
		one.Started = time.Now()
		f.set(one)
		time.Sleep(10 * time.Second)
		cpu = 5 * time.Second
		if got := percent(t.Context()); got != 50 {
			t.Errorf("first it is %v", got)
		}
		time.Sleep(5 * time.Second)
		fails = docker.ErrAway
		if got := percent(t.Context()); got != -1 {
			t.Errorf("without an answer it is %v", got)
		}
		time.Sleep(5 * time.Second)
		cpu, fails = 15*time.Second, nil
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_ = percent(gone) // it may go without, or read
		if got := percent(t.Context()); got != 100 {
			t.Errorf("then it is %v", got)
		}
	})
}

// TestLogOfOneMadeAnew: who follows a log goes on when the container is another one.
func TestLogOfOneMadeAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fragile{logs: func(id string, take func(docker.Entry) error) error {
			if id == "new" {
				return take(docker.Entry{At: began, Text: []byte("hello\n")})
			}
			return docker.ErrNoContainer
		}}
		s := f.serve(t)
		ctx, cancel := context.WithCancel(t.Context())
		r := &reader[pb.LogEntry]{ctx: ctx}
		over := make(chan error)
		go func() { over <- s.StreamLogs(&pb.StreamLogsRequest{ServiceName: "redis", Follow: true}, r) }()
		synctest.Wait()
		one := status("redis", envmgr.Ready, "")
		one.Container, one.Started = "new", began.Add(-time.Hour)
		f.set(one)
		synctest.Wait()
		cancel()
		if err := <-over; !errors.Is(err, context.Canceled) || len(r.got) != 1 || r.got[0].GetContainerId() != "new" {
			t.Errorf("got %v, %v", r.got, err)
		}
		err := s.StreamLogs(&pb.StreamLogsRequest{ServiceName: "redis"}, &reader[pb.LogEntry]{ctx: t.Context()})
		if err != nil {
			t.Errorf("of the new one: %v", err)
		}
	})
}
