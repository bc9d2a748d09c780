package servicetest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/servicetest"
)

// TestStandIn: what it does by itself, and what it can be told.
func TestStandIn(t *testing.T) {
	t.Parallel()
	e := dockertest.Shared(t, dockertest.Config{})
	image := servicetest.StandIn(t, e, "localhost/dspy-told:1", servicetest.StandInOptions{
		HTTP: ":80", TCP: ":81", Unhealthy: true, Lines: 2, Say: "hello",
	})
	c := e.Run(t, dockertest.Run{Image: image, Args: []string{"--what", "the service is given"}})
	host := c.Address(t)
	health := "http://" + host + "/health"
	status := func(want int) func() error {
		return func() error {
			if got, _ := get(t, e, health, patience); got != want {
				return fmt.Errorf("%s answers %d, not %d", health, got, want)
			}
			return nil
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	eventually(t, c, status(http.StatusServiceUnavailable))
	servicetest.Tell(t, e, host, "health=200")
	must(status(http.StatusOK)())
	if code, body := get(t, e, "http://"+host+"/api/tags", patience); code != http.StatusOK || body != "{\"models\":[]}\n" {
		t.Errorf("/api/tags: %d, %q", code, body)
	}
	c.Signal(t, "USR1")
	eventually(t, c, status(http.StatusServiceUnavailable))
	c.Signal(t, "USR2")
	eventually(t, c, status(http.StatusOK))
	servicetest.Tell(t, e, host, "silent=true")
	if code, body := get(t, e, health, 100*time.Millisecond); code != 0 {
		t.Errorf("a silent one answers %d, %s", code, body)
	}
	servicetest.Tell(t, e, host, "silent=false")
	must(status(http.StatusOK)())
	accepts(t, e, host+":81")

	servicetest.Tell(t, e, host, "say=bye", "exit=7")
	if code := c.Wait(t); code != 7 {
		t.Errorf("told to exit with 7 it does with %d", code)
	}
	said := c.Output(t)
	for _, want := range []string{"out 2\n", "err 2\n", "hello\n", "bye\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("it has written %q, without %q", said, want)
		}
	}
}

// accepts checks that a port takes a connection, and keeps it without a word.
func accepts(t *testing.T, e *dockertest.Engine, address string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	conn, err := e.Dial(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: %d bytes, %v", address, n, err)
	}
}

// TestCrash: a stand-in that crashes in its first two starts, and then stays; and
// what the environment of a container adds.
func TestCrash(t *testing.T) {
	t.Parallel()
	e := dockertest.Shared(t, dockertest.Config{})
	image := servicetest.StandIn(t, e, "localhost/dspy-crash:1", servicetest.StandInOptions{
		Crash: true, CrashAfter: 20 * time.Millisecond, ExitCode: 9, Crashes: 2,
	})
	c := e.Run(t, dockertest.Run{Image: image})
	for i := range 2 {
		if code := c.Wait(t); code != 9 {
			t.Errorf("start %d: exit code %d", i+1, code)
		}
		c.Start(t)
	}
	url := "http://" + c.Address(t) + ":8080/"
	eventually(t, c, func() error { return well(t, e, url) })

	c = e.Run(t, dockertest.Run{Image: image, Env: []string{"STANDIN=say=first exit=5"}})
	if code := c.Wait(t); code != 5 || c.Output(t) != "first\n" {
		t.Errorf("exit code %d, %q", code, c.Output(t))
	}
}
