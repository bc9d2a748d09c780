package servicetest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/servicetest"
)

// TestStack: each of the nine answers in its own language, and those that are not
// real not before their time.
func TestStack(t *testing.T) {
	t.Parallel()
	e := dockertest.Shared(t, dockertest.Config{})
	images := servicetest.Stack(t, e, servicetest.StackOptions{})
	for name, tc := range map[string]struct {
		run   dockertest.Run
		delay time.Duration
		ask   func(t *testing.T, host string) error
	}{
		servicetest.Redis: {ask: func(t *testing.T, host string) error { return says(t, e, host+":6379", "PING\r\n", "+PONG\r\n", 1) }},
		servicetest.ZooKeeper: {ask: func(t *testing.T, host string) error {
			if err := says(t, e, host+":2181", "ruok", "imok", 1); err != nil {
				return err
			}
			return says(t, e, host+":2181", "srvr", "Mode: standalone\n", 9)
		}},
		servicetest.Prometheus: {
			run: dockertest.Run{Network: "host", Args: []string{"--config.file=/etc/prometheus/prometheus.yml", "--web.listen-address=127.0.0.1:9090"}},
			ask: func(t *testing.T, _ string) error { return well(t, e, "http://127.0.0.1:9090/-/healthy") },
		},
		servicetest.Broker: {
			delay: 2500 * time.Millisecond,
			run:   dockertest.Run{Publish: "127.0.0.1:9092", Port: "9092"},
			ask: func(t *testing.T, _ string) error {
				_, err := kcat(t, e, "127.0.0.1:9092", "", "-L")
				return err
			},
		},
		servicetest.Ollama: {delay: time.Second, ask: func(t *testing.T, host string) error { return well(t, e, "http://"+host+":11434/api/tags") }},
		servicetest.RedDB:  {delay: 300 * time.Millisecond, ask: func(t *testing.T, host string) error { return well(t, e, "http://"+host+":8080/health") }},
		servicetest.NodeA:  {delay: 500 * time.Millisecond, ask: func(t *testing.T, host string) error { return well(t, e, "http://"+host+":9000/health") }},
		servicetest.NodeB:  {delay: 500 * time.Millisecond, ask: func(t *testing.T, host string) error { return says(t, e, host+":9000", "?\n\n", "HTTP", 1) }},
		servicetest.Router: {
			delay: 300 * time.Millisecond,
			run:   dockertest.Run{Env: []string{"MESH_ROLE=router"}},
			ask:   func(t *testing.T, host string) error { return well(t, e, "http://"+host+":9000/health") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.run.Image, tc.run.Name = images[name], name
			began := time.Now()
			c := e.Run(t, tc.run)
			host := c.Address(t)
			eventually(t, c, func() error { return tc.ask(t, host) })
			took := time.Since(began)
			if took < tc.delay {
				t.Errorf("it answers after %v, not %v", took, tc.delay)
			}
			t.Logf("answers after %v", took)
		})
	}
}

// TestDelays: one image waits for as long as the role of its container says, and
// not for one delay after the other.
func TestDelays(t *testing.T) {
	t.Parallel()
	e := dockertest.Shared(t, dockertest.Config{})
	image := servicetest.StandIn(t, e, "localhost/dspy-role:1", servicetest.StandInOptions{
		Delay: time.Hour, DelayIf: map[string]time.Duration{"ROLE=first": 0, "ROLE=never": time.Hour},
	})
	health := func(role string) (*dockertest.Container, string) {
		c := e.Run(t, dockertest.Run{Image: image, Env: []string{"ROLE=" + role}})
		return c, fmt.Sprintf("http://%s:8080/health", c.Address(t))
	}
	_, never := health("never")
	_, other := health("other")
	c, first := health("first")
	eventually(t, c, func() error { return well(t, e, first) })
	for role, url := range map[string]string{"never": never, "other": other} {
		if status, said := get(t, e, url, patience); status != 0 {
			t.Errorf("%s has an hour's delay, and answers %d, %s", role, status, said)
		}
	}
}

// TestPodman: Podman takes the images of real servers too.
func TestPodman(t *testing.T) {
	t.Parallel()
	e := dockertest.Shared(t, dockertest.Config{Podman: true})
	c := e.Run(t, dockertest.Run{Image: servicetest.Real(t, e, servicetest.Redis)})
	address := c.Address(t) + ":6379"
	eventually(t, c, func() error { return says(t, e, address, "PING\r\n", "+PONG\r\n", 1) })
}
