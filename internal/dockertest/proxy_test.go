package dockertest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/client"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
)

func TestProxy(t *testing.T) {
	t.Parallel()
	e := dockertest.Shared(t, dockertest.Config{})
	p := dockertest.NewProxy(t, e)
	c := dockertest.Client(t, p.Address())
	image := e.LoadStandin(t)
	if code, stdout, _ := end(t, c, start(t, c, image, "", "out=1")); code != 0 || stdout != "out 1\n" {
		t.Errorf("exit code %d, %q", code, stdout)
	}

	_, failed := c.Events(t.Context(), events.ListOptions{})
	p.Cut()
	if err := <-failed; err == nil {
		t.Error("a stream of events outlives its connection")
	}
	if _, err := c.Ping(t.Context()); !client.IsErrConnectionFailed(err) {
		t.Errorf("ping: %v", err)
	}
	if err := p.Repair(); err != nil {
		t.Fatal(err)
	}

	p.Slow(200 * time.Millisecond)
	began := time.Now()
	if _, err := c.ContainerList(t.Context(), container.ListOptions{}); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("an answer came within %v", took)
	}

	p.Hang()
	ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	if _, err := c.ContainerList(ctx, container.ListOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("list: %v", err)
	}
	if err := p.Repair(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ContainerList(t.Context(), container.ListOptions{}); err != nil {
		t.Error(err)
	}
}
