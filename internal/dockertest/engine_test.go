package dockertest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
)

// start makes and starts a container, and returns its id.
func start(t *testing.T, c *client.Client, image, name string, command ...string) string {
	t.Helper()
	made, err := c.ContainerCreate(t.Context(), &container.Config{Image: image, Cmd: command}, nil, nil, nil, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ContainerStart(t.Context(), made.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return made.ID
}

// end waits until a container has ended, and returns its exit code and what it
// wrote.
func end(t *testing.T, c *client.Client, id string) (code int64, stdout, stderr string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	ends, errs := c.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	select {
	case e := <-ends:
		code = e.StatusCode
	case err := <-errs:
		t.Fatal(err)
	}
	logs, err := c.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	var out, errOut bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errOut, logs); err != nil {
		t.Fatal(err)
	}
	return code, out.String(), errOut.String()
}

// await waits until a container has written something.
func await(t *testing.T, c *client.Client, id string) {
	t.Helper()
	logs, err := c.ContainerLogs(t.Context(), id, container.LogsOptions{ShowStdout: true, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	if _, err := io.CopyN(io.Discard, logs, 9); err != nil { // a header of 8 bytes, and one of its own
		t.Fatal(err)
	}
}

func state(t *testing.T, c *client.Client, id string) *container.State {
	t.Helper()
	found, err := c.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return found.State
}

// address returns that of a container in the only network that it is in.
func address(c container.InspectResponse) string {
	for _, n := range c.NetworkSettings.Networks {
		return n.IPAddress
	}
	return ""
}

// engines are the configurations that the short tests run with.
var engines = map[string]dockertest.Config{
	"docker": {},
	"podman": {Podman: true},
}

func TestStandin(t *testing.T) {
	t.Parallel()
	for name, cfg := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := dockertest.Shared(t, cfg)
			c, image := e.Client(t), e.LoadStandin(t)
			id := start(t, c, image, "", "out=3", "err=1", "write=/tmp/result:done", "read=/tmp/result", "exit=7")
			code, stdout, stderr := end(t, c, id)
			if code != 7 || stdout != "out 1\nout 2\nout 3\ndone" || stderr != "err 1\n" {
				t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
			}
		})
	}
}

func TestShell(t *testing.T) {
	t.Parallel()
	for name, cfg := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := dockertest.Shared(t, cfg)
			c, image := e.Client(t), e.LoadShell(t)
			code, stdout, stderr := end(t, c, start(t, c, image, "", "sh", "-c", "echo $((6 * 7)); ls / | grep bin >&2; exit 5"))
			if code != 5 || stdout != "42\n" || stderr != "bin\n" {
				t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
			}
		})
	}
}

// TestReach: a container's own address is reached from a test, although the
// engine has a network of its own.
func TestReach(t *testing.T) {
	t.Parallel()
	for name, cfg := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := dockertest.Shared(t, cfg)
			c, image := e.Client(t), e.LoadStandin(t)
			id := start(t, c, image, "", "listen=:80", "say=ready", "hang")
			await(t, c, id)
			found, err := c.ContainerInspect(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			web := &http.Client{Transport: &http.Transport{DialContext: e.Dial, DisableKeepAlives: true}}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address(found)+"/health", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := web.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				t.Error(answer.Status)
			}
		})
	}
}

// TestKill: what an engine knew it knows again after kill -9; whether its
// containers live is a matter of its settings.
func TestKill(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cfg   dockertest.Config
		lives bool
	}{
		"docker":                               {},
		"docker, containers outlive it":        {cfg: dockertest.Config{LiveRestore: true}, lives: true},
		"docker with its containerd":           {cfg: dockertest.Config{ContainerdChild: true}},
		"podman, which containers do not need": {cfg: dockertest.Config{Podman: true}, lives: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := dockertest.Start(t, tc.cfg)
			c, image := e.Client(t), e.LoadStandin(t)
			ended := start(t, c, image, "ended", "out=1000", "exit=3")
			end(t, c, ended)
			runs := start(t, c, image, "runs", "hang")
			if err := e.Kill(); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Ping(t.Context()); !client.IsErrConnectionFailed(err) {
				t.Errorf("a killed engine answers: %v", err)
			}
			if err := e.Up(); err != nil {
				t.Fatal(err)
			}
			if code, stdout, _ := end(t, c, "ended"); code != 3 || strings.Count(stdout, "\n") != 1000 {
				t.Errorf("exit code %d, %d bytes", code, len(stdout))
			}
			if s := state(t, c, runs); s.Running != tc.lives {
				t.Errorf("it is %+v", s)
			}
		})
	}
}

// TestStop: an engine that ends in peace takes its containers with it, unless it
// restores them. They outlive containerd in any case.
func TestStop(t *testing.T) {
	t.Parallel()
	e := dockertest.Start(t, dockertest.Config{})
	c, image := e.Client(t), e.LoadStandin(t)
	id := start(t, c, image, "", "term=4", "say=ready", "hang")
	await(t, c, id)
	if err := e.Stop(); err != nil {
		t.Fatal(err)
	}
	e.SetLiveRestore(true)
	if err := e.Up(); err != nil {
		t.Fatal(err)
	}
	if s := state(t, c, id); s.Running || s.ExitCode != 4 {
		t.Errorf("it is %+v", s)
	}
	if err := c.ContainerStart(t.Context(), id, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Stop(), e.Up()); err != nil {
		t.Fatal(err)
	}
	if s := state(t, c, id); !s.Running {
		t.Errorf("it is %+v", s)
	}
	if err := errors.Join(e.KillContainerd(), e.Up()); err != nil {
		t.Fatal(err)
	}
	if s := state(t, c, id); !s.Running {
		t.Errorf("it is %+v", s)
	}
	again, err := c.ContainerCreate(t.Context(), &container.Config{Image: image, Cmd: []string{"exit=5"}}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	// dockerd takes a moment to find the new containerd, and refuses meanwhile.
	for late := time.Now().Add(time.Minute); c.ContainerStart(t.Context(), again.ID, container.StartOptions{}) != nil; {
		if time.Now().After(late) {
			t.Fatalf("nothing starts with the new containerd:\n%s", e.Log())
		}
		<-time.After(20 * time.Millisecond) // polls what nobody announces
	}
	if code, _, _ := end(t, c, again.ID); code != 5 {
		t.Errorf("exit code %d", code)
	}
}

// TestStoreFull: a store with a limit is full when it is, and others are not.
func TestStoreFull(t *testing.T) {
	t.Parallel()
	e := dockertest.Start(t, dockertest.Config{Store: "32m"})
	c, image := e.Client(t), e.LoadStandin(t)
	// Why it failed it cannot say: what it writes goes to the same store.
	if code, _, _ := end(t, c, start(t, c, image, "", "fill=/tmp/file:64m")); code != 99 {
		t.Errorf("exit code %d", code)
	}
}
