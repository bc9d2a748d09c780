package app

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// served is an orchestrator within the test, with a connection to its socket.
type served struct {
	*api.Client
	stop func() error // waits for its end
}

// startDaemon runs one until the test ends; the error is that of a start that failed.
func startDaemon(t *testing.T, o Options) (*served, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan string, 1), make(chan error, 1)
	o.Ready = func(socket string) { ready <- socket }
	go func() { done <- Run(ctx, o) }()
	select {
	case err := <-done:
		cancel()
		return nil, err
	case socket := <-ready:
		c, err := api.Dial(t.Context(), api.Target{Socket: socket})
		d := &served{Client: c, stop: func() error {
			cancel()
			err := <-done
			done <- err
			return err
		}}
		t.Cleanup(func() {
			if c != nil {
				_ = c.Close()
			}
			if err := d.stop(); err != nil {
				t.Errorf("the daemon ended with %v", err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return d, nil
	}
}

// secure makes a certificate that holds from a time on, and a token.
func secure(t *testing.T, conf *config.Config, from time.Time) {
	t.Helper()
	conf.Access.Dir = filepath.Join(t.TempDir(), "access")
	uid := uint32(os.Geteuid())
	if err := access.MakeCertificate(conf.AccessDir(), uid, []string{"localhost"}, from, false); err != nil {
		t.Fatal(err)
	}
	if err := access.MakeToken(conf.AccessDir(), uid, false); err != nil {
		t.Fatal(err)
	}
}

// longAgo is before every certificate of then has expired.
var longAgo = time.Now().AddDate(-30, 0, 0)

// TestADoorThatCannotBeOpened stays shut and says why; the socket serves, and so does
// the other door.
func TestADoorThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, grpc, says string
		since            time.Time
	}{
		{"an expired certificate, on loopback", "127.0.0.1:0", "ok", longAgo},
		{"an expired certificate, for other hosts", "0.0.0.0:0", "the certificate ended on", longAgo},
		{"an address of another host", "192.0.2.1:0", "not an address of this host", time.Now()},
		{"a name that nobody knows", "nobody.invalid:0", "look up nobody.invalid", time.Now()},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := testOptions(t)
			o.Config.GRPCListen, o.Config.HTTPListen = c.grpc, "127.0.0.1:0"
			secure(t, &o.Config, c.since)
			d, err := startDaemon(t, o)
			if err != nil {
				t.Fatalf("the daemon did not start: %v", err)
			}
			h, err := d.Health(t.Context(), &pb.HealthRequest{})
			if err != nil || !h.GetHealthy() {
				t.Fatalf("healthy: %v, %v", h.GetHealthy(), err)
			}
			status := h.GetServices()["grpc"]
			if shut := strings.HasPrefix(status, "down: "); shut == (c.says == "ok") || !strings.Contains(status, c.says) {
				t.Errorf("gRPC: %q, want %q in it", status, c.says)
			}
			if http := h.GetServices()["http"]; http != "ok" {
				t.Errorf("HTTP: %q", http)
			}
		})
	}
}

// TestAnAddressThatIsAMistake is refused at once, with the key and where it stands.
func TestAnAddressThatIsAMistake(t *testing.T) {
	t.Parallel()
	for at, says := range map[string]string{
		"192.0.2.1:50052": "needs TLS and a token",
		"what:is:this":    "is no address to listen at",
	} {
		o := testOptions(t)
		o.Config.GRPCListen, o.Config.HTTPListen = "127.0.0.1:0", at
		_, err := startDaemon(t, o)
		if task.CodeOf(err) != task.CodeInvalid {
			t.Fatalf("%s: %v", at, err)
		}
		if msg := err.Error(); !strings.HasPrefix(msg, "http_addr (default): ") || !strings.Contains(msg, says) {
			t.Errorf("%s: %s", at, msg)
		}
	}
}
