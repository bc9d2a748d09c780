package servicetest_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/servicetest"
)

// kcat runs Debian's client beside the broker's published port, and returns what it
// prints. What it reads ends with the topic.
func kcat(t *testing.T, e *dockertest.Engine, broker, stdin string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("kcat"); err != nil {
		t.Fatalf("kcat, a client of Kafka's, is missing: apt-get install kcat, or scripts/setup-tests: %v", err)
	}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	cmd, err := e.Command(ctx, "kcat", append([]string{"-b", broker, "-m", "1", "-q"}, args...)...)
	if err != nil {
		return "", err
	}
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("kcat %v: %w: %s", args, err, exit.Stderr)
	}
	return string(out), err
}

// TestKafka: another client writes to the broker through its published port; after
// kill -9 everything acknowledged is there again, and groups work.
func TestKafka(t *testing.T) {
	t.Parallel()
	e := dockertest.Shared(t, dockertest.Config{})
	const address = "127.0.0.1:9192" // beside that of TestStack
	image := servicetest.Kafka(t, e, servicetest.KafkaOptions{Advertise: address})
	c := e.Run(t, dockertest.Run{Image: image, Publish: address, Port: "9092", Binds: []string{"kafka_data:/var/lib/kafka/data"}})
	list := func() (said string) {
		eventually(t, c, func() (err error) {
			said, err = kcat(t, e, address, "", "-L")
			return err
		})
		return said
	}
	if said := list(); !strings.Contains(said, "broker 0 at "+address) {
		t.Errorf("it is advertised as: %s", said)
	}
	if _, err := kcat(t, e, address, "one\ntwo\n", "-P", "-t", "events"); err != nil {
		t.Fatal(err)
	}
	c.Signal(t, "KILL")
	c.Wait(t)
	c.Start(t)
	list()
	for range 2 { // each reader of its own group reads all
		said, err := kcat(t, e, address, "", "-C", "-t", "events", "-o", "beginning", "-e")
		if err != nil || said != "one\ntwo\n" {
			t.Errorf("after kill -9: %q, %v", said, err)
		}
	}
	said, err := kcat(t, e, address, "", "-G", "readers", "-X", "auto.offset.reset=earliest", "-c", "2", "events")
	if err != nil || said != "one\ntwo\n" {
		t.Errorf("a group reads %q, %v", said, err)
	}
	c.Signal(t, "TERM")
	if code := c.Wait(t); code != 0 {
		t.Errorf("after SIGTERM it ends with %d: %s", code, c.Output(t))
	}
}
