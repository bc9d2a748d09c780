package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// dial connects to the daemon.
func (w *world) dial(ctx context.Context) (*api.Client, error) {
	c, err := config.Load(config.Given{WorkspaceFlag: w.workspace, Cwd: "/"})
	if err != nil {
		return nil, err
	}
	socket := runtimedir.SocketPath(runtimedir.Path(w.runtime, os.Getuid()), c.QueueDir)
	return api.Dial(ctx, api.Target{Socket: socket, Workspace: w.workspace})
}

func (w *world) client() *api.Client {
	w.Helper()
	c, err := w.dial(context.Background())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = c.Close() })
	return c
}

// submission is a task that runs a shell line.
func submission(id, line string, change ...func(*pb.SubmitTaskRequest)) *pb.SubmitTaskRequest {
	req := &pb.SubmitTaskRequest{Id: id, Spec: &pb.TaskSpec{
		Argv: []string{"/bin/sh", "-c", line}, Dir: "/", Env: []string{"PATH=/usr/bin:/bin"},
	}}
	for _, f := range change {
		f(req)
	}
	return req
}

// persistently repeats a call until it is answered, whatever is killed meanwhile.
func (w *world) persistently(call func(context.Context, *api.Client) error) {
	w.Helper()
	if err := w.retry(call); err != nil {
		w.Fatal(err)
	}
}

// retry is persistently, and may be called by any goroutine.
func (w *world) retry(call func(context.Context, *api.Client) error) error {
	deadline := time.Now().Add(2 * time.Minute)
	var last error
	for time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		last = func() error {
			c, err := w.dial(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			return call(ctx, c)
		}()
		cancel()
		if last == nil {
			return nil
		}
		pauseFor(20 * time.Millisecond)
	}
	return fmt.Errorf("the call was never answered: %w", last)
}

// submit submits until it is accepted.
func (w *world) submit(reqs ...*pb.SubmitTaskRequest) {
	w.Helper()
	if err := w.trySubmit(reqs...); err != nil {
		w.Fatal(err)
	}
}

// trySubmit is submit, and may be called by any goroutine.
func (w *world) trySubmit(reqs ...*pb.SubmitTaskRequest) error {
	var refused error
	err := w.retry(func(ctx context.Context, c *api.Client) error {
		got, err := c.SubmitTasks(ctx, &pb.SubmitTasksRequest{Tasks: reqs})
		if err != nil {
			return err
		}
		for _, r := range got.GetResults() {
			if !r.GetSuccess() {
				refused = fmt.Errorf("refused: %s", r.GetError())
			}
		}
		return nil
	})
	return errors.Join(err, refused)
}

// settle waits until no task waits or runs, and returns all of them by id.
func (w *world) settle(limit time.Duration) map[string]*pb.TaskInfo {
	w.Helper()
	deadline := time.Now().Add(limit)
	for {
		var open int64
		w.persistently(func(ctx context.Context, c *api.Client) error {
			h, err := c.Health(ctx, &pb.HealthRequest{})
			if err != nil {
				return err
			}
			open = 0
			for _, cl := range h.GetClasses() {
				for state, n := range cl.GetStates() {
					switch state {
					case "pending", "assigned", "starting", "running", "stopping":
						open += n
					}
				}
			}
			return nil
		})
		if open == 0 {
			return w.all()
		}
		if time.Now().After(deadline) {
			for id, t := range w.all() {
				switch t.GetState() {
				case "succeeded", "failed", "cancelled", "lost":
				default:
					w.Logf("%s is %s, attempt %d: %s", id, t.GetState(), t.GetAttempt(), t.GetDetail())
				}
			}
			w.Fatalf("%d tasks have not ended after %s", open, limit)
		}
		pauseFor(50 * time.Millisecond)
	}
}

func (w *world) all() map[string]*pb.TaskInfo {
	w.Helper()
	out := make(map[string]*pb.TaskInfo)
	w.persistently(func(ctx context.Context, c *api.Client) error {
		var before uint64
		for {
			page, err := c.ListTasks(ctx, &pb.ListTasksRequest{Limit: 1000, BeforeSeq: before})
			if err != nil {
				return err
			}
			for _, t := range page.GetTasks() {
				out[t.GetId()] = t
			}
			if before = page.GetNextBeforeSeq(); before == 0 {
				return nil
			}
		}
	})
	return out
}
