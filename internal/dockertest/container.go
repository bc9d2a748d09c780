package dockertest

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/docker/go-connections/nat"
)

// Run is what a container is like that a test runs beside the product.
type Run struct {
	Image   string
	Name    string            // "" = the engine's choice
	Args    []string          // after the image's entrypoint
	Env     []string          // NAME=VALUE
	Labels  map[string]string // what others would have written to it
	Binds   []string          // volume or folder, and where: data:/data
	Publish string            // address and port of the engine's network, such as 127.0.0.1:80, ...
	Port    string            // ... that the container's port is published on, such as 80
	Network string            // "" = the engine's default; host = that of the engine
	Restart bool              // the engine starts it again whenever it has ended
}

// A Container is one that a test runs. It ends with the test, or with its engine.
type Container struct {
	ID     string
	client *client.Client
}

// Run makes and starts a container.
func (e *Engine) Run(t testing.TB, run Run) *Container {
	t.Helper()
	c := e.Client(t)
	config := &container.Config{Image: run.Image, Cmd: run.Args, Env: run.Env, Labels: run.Labels}
	host := &container.HostConfig{Binds: run.Binds, NetworkMode: container.NetworkMode(run.Network)}
	if run.Restart {
		host.RestartPolicy.Name = container.RestartPolicyAlways
	}
	if run.Publish != "" {
		ip, port, err := net.SplitHostPort(run.Publish)
		if err != nil {
			t.Fatal(err)
		}
		inside := nat.Port(run.Port + "/tcp")
		config.ExposedPorts = nat.PortSet{inside: {}}
		host.PortBindings = nat.PortMap{inside: {{HostIP: ip, HostPort: port}}}
	}
	made, err := c.ContainerCreate(t.Context(), config, host, nil, nil, run.Name)
	if err != nil {
		t.Fatalf("make a container of %s: %v", run.Image, err)
	}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), time.Minute)
		defer stop()
		// Whoever killed the engine, or removed the container, knows why.
		_ = c.ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true})
	})
	running := &Container{ID: made.ID, client: c}
	running.Start(t)
	return running
}

// Start starts it again, after it has ended.
func (c *Container) Start(t testing.TB) {
	t.Helper()
	if err := c.client.ContainerStart(t.Context(), c.ID, container.StartOptions{}); err != nil {
		t.Fatalf("start container %s: %v", c.ID, err)
	}
}

// Signal sends a signal to its first process, such as USR1.
func (c *Container) Signal(t testing.TB, signal string) {
	t.Helper()
	if err := c.client.ContainerKill(t.Context(), c.ID, signal); err != nil {
		t.Fatalf("signal container %s: %v", c.ID, err)
	}
}

// Wait waits until it has ended, and returns its exit code.
func (c *Container) Wait(t testing.TB) int {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	ends, errs := c.client.ContainerWait(ctx, c.ID, container.WaitConditionNotRunning)
	select {
	case end := <-ends:
		return int(end.StatusCode)
	case err := <-errs:
		t.Fatalf("wait for container %s, which has written %q: %v", c.ID, c.Output(t), err)
		return 0
	}
}

// Address returns its own, which is reached by Engine.Dial; "" if it is in the
// engine's network, or has ended.
func (c *Container) Address(t testing.TB) string {
	t.Helper()
	found, err := c.client.ContainerInspect(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range found.NetworkSettings.Networks {
		return network.IPAddress
	}
	return ""
}

// Output returns what it has written, to standard output and standard error.
func (c *Container) Output(t testing.TB) string {
	t.Helper()
	logs, err := c.client.ContainerLogs(t.Context(), c.ID, container.LogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	var said bytes.Buffer
	if _, err := stdcopy.StdCopy(&said, &said, logs); err != nil {
		t.Fatal(err)
	}
	return said.String()
}
