package doors

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// steps are the teardowns that were registered.
type steps []func(context.Context) error

func (s *steps) push(_ string, stop func(context.Context) error) { *s = append(*s, stop) }

func (s *steps) undo(t *testing.T) {
	t.Helper()
	for _, stop := range slices.Backward(*s) {
		if err := stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	*s = nil
}

func options(s *steps, grpc, http, dir string) Options {
	return Options{
		GRPC: Wanted{Addr: grpc, Key: "grpc_addr", Source: "a flag"}, HTTP: Wanted{Addr: http, Key: "http_addr", Source: "default"},
		AccessDir: dir, Logger: slog.New(slog.DiscardHandler), Teardown: s.push,
	}
}

// TestNoDoorIsWanted: nothing is opened, nothing is to be undone.
func TestNoDoorIsWanted(t *testing.T) {
	t.Parallel()
	var s steps
	d, err := Open(t.Context(), options(&s, "", "", ""))
	if err != nil || len(s) > 0 {
		t.Fatalf("%v, %d teardowns", err, len(s))
	}
	for name, door := range map[string]*Door{"gRPC": &d.GRPC, "HTTP": &d.HTTP, "a zero one": new(Door)} {
		if door.Status() != "off" || door.Addr != "" || len(door.Listeners) > 0 {
			t.Errorf("%s: %+v", name, door)
		}
	}
}

// TestDoors: each is opened or stays shut by itself, and says how it is; what was opened
// is closed by its teardown.
func TestDoors(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	longAgo := time.Now().AddDate(-30, 0, 0)
	for name, c := range map[string]struct {
		grpc  string
		since time.Time // of the certificate
		says  string
	}{
		"loopback":                              {"127.0.0.1:0", longAgo, "ok"},
		"a port that is taken":                  {taken.Addr().String(), longAgo, "ok: " + taken.Addr().String() + " is held by"},
		"beyond loopback":                       {"0.0.0.0:0", time.Now(), "ok"},
		"an expired certificate":                {"0.0.0.0:0", longAgo, "down: "},
		"a port that is taken, beyond loopback": {"0.0.0.0:" + portOf(t, taken), time.Now(), "down: "},
		"an address of another host":            {"192.0.2.1:0", time.Now(), "down: "},
		"a name that nobody knows":              {"nobody.invalid:0", time.Now(), "down: look up nobody.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s steps
			d, err := Open(t.Context(), options(&s, c.grpc, "127.0.0.1:0", secured(t, c.since)))
			if err != nil {
				t.Fatal(err)
			}
			defer s.undo(t)
			if got := d.GRPC.Status(); !strings.HasPrefix(got, c.says) || c.says == "ok" && got != "ok" {
				t.Errorf("gRPC is %q, want %q", got, c.says)
			}
			if shut := strings.HasPrefix(c.says, "down"); shut != (d.GRPC.Addr == "") || shut != (len(d.GRPC.Listeners) == 0) {
				t.Errorf("gRPC is %s, with %d listeners", d.GRPC.Addr, len(d.GRPC.Listeners))
			}
			if d.HTTP.Status() != "ok" {
				t.Errorf("HTTP is %q", d.HTTP.Status())
			}
			if used := c.since != longAgo; used != (d.Cert != nil) {
				t.Errorf("a certificate is used: %v, want %v", d.Cert != nil, used)
			}
			s.undo(t)
			for _, l := range slices.Concat(d.GRPC.Listeners, d.HTTP.Listeners) {
				if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
					t.Errorf("%s is open after the teardown: %v", l.Addr(), err)
				}
			}
		})
	}
}

func portOf(t *testing.T, l net.Listener) string {
	t.Helper()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestAMistakeIsRefused: with the key and where it stands, and nothing is opened.
func TestAMistakeIsRefused(t *testing.T) {
	t.Parallel()
	for at, says := range map[string]string{
		"192.0.2.1:50052": "needs TLS and a token",
		"what:is:this":    "is no address to listen at",
	} {
		var s steps
		_, err := Open(t.Context(), options(&s, "127.0.0.1:0", at, ""))
		if task.CodeOf(err) != task.CodeInvalid || len(s) > 0 {
			t.Fatalf("%s: %v, %d teardowns", at, err, len(s))
		}
		if msg := err.Error(); !strings.HasPrefix(msg, "http_addr (default): ") || !strings.Contains(msg, says) {
			t.Errorf("%s: %s", at, msg)
		}
	}
}

// meter counts nothing.
type meter struct{}

func (meter) RPC(string, string) {}
func (meter) HTTP(string, int)   {}

// TestServedThroughTheDoor: a program of ours is answered, by any name of this host; one
// that a foreign page has sent is not.
func TestServedThroughTheDoor(t *testing.T) {
	t.Parallel()
	var s steps
	d, err := Open(t.Context(), options(&s, "", "127.0.0.2:0", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer s.undo(t)
	srv, err := rpc.New(rpc.Options{
		Program: "this test", Healthy: func() bool { return true }, Meter: meter{}, Logger: slog.New(slog.DiscardHandler),
		Stopping: task.Errorf(task.CodeUnavailable, "stopping"), SlowReader: task.Errorf(task.CodeExhausted, "slow"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var who rpc.Peer
	h, err := rpc.NewHTTP(srv, []rpc.Route{{Method: http.MethodGet, Path: "/health", Answer: func(w http.ResponseWriter, r *http.Request) error {
		who, _ = rpc.PeerFrom(r.Context())
		return rpc.AnswerOK(w, "well")
	}}}, rpc.HTTPOptions{ConnContext: access.ConnContext, Guard: d.GuardHTTP([]string{"login1"}), Peer: rpc.GatePeer})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, d.HTTP.Listeners...) }()
	for host, want := range map[string]int{
		"": http.StatusOK, "localhost": http.StatusOK, "login1": http.StatusOK, "evil.example": http.StatusForbidden,
	} {
		if status := ask(t, "http://"+d.HTTP.Addr+"/health", host); status != want {
			t.Errorf("Host %q: %d, want %d", host, status, want)
		}
	}
	if want := (rpc.Peer{UID: uint32(os.Geteuid()), Via: "http"}); who != want {
		t.Errorf("the peer is %+v, want %+v", who, want)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func ask(t *testing.T, url, host string) (status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}
