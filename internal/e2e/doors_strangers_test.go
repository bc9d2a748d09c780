package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
)

// An attempt is one call through one door, on a connection of its own.
type attempt struct {
	Network, Addr string // of the door: "tcp" or "unix"
	RPC           string // "/package.Service/Method"; or
	Route         route
}

func (a attempt) String() string {
	if a.RPC != "" {
		return a.RPC + " at " + a.Addr
	}
	return a.Route.String() + " at " + a.Addr
}

// An outcome is what came of an attempt.
type outcome struct {
	Heard    int64  // bytes that the server has sent
	Answered string // the code of the answer; with gRPC also when there was none
}

// TestStrangersAreRefused has another user try every RPC that reflection lists and
// every HTTP call that the daemon lists, at each door: not one byte is answered, and
// no request is counted. Then the owner tries the same, so that it is known that
// each would have been answered.
func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	d := openDoors(t)
	end := d.holdMine()
	var attempts []attempt
	for _, m := range newReflector(t, plainConn(t, d.grpc), "v1").methods() {
		for _, addr := range bothFamilies(t, d.grpc) {
			attempts = append(attempts, attempt{Network: "tcp", Addr: addr, RPC: m})
		}
		attempts = append(attempts, attempt{Network: "unix", Addr: d.openSocket(), RPC: m})
	}
	for _, r := range d.routes() {
		for _, addr := range bothFamilies(t, d.http) {
			attempts = append(attempts, attempt{Network: "tcp", Addr: addr, Route: r})
		}
	}
	before := d.answeredRequests()
	for i, got := range playAs[[]outcome](t, stranger, "call", attempts) {
		if got.Heard != 0 {
			t.Errorf("%s: another user heard %d bytes (%s)", attempts[i], got.Heard, got.Answered)
		}
	}
	if after := d.answeredRequests(); after != before {
		t.Errorf("%d requests of another user were answered", after-before)
	}
	d.wantOnlyMine()
	end()

	for i, got := range playAs[[]outcome](t, os.Getuid(), "call", attempts) {
		if got.Heard == 0 {
			t.Errorf("%s: the owner is not answered either (%s)", attempts[i], got.Answered)
		}
	}
	t.Logf("%d attempts", len(attempts))
}

// openSocket makes the Unix socket one that everybody may connect to, as if its
// owner had been careless, and returns its path.
func (d *doors) openSocket() string {
	d.Helper()
	conf, err := config.Load(config.Given{WorkspaceFlag: d.workspace, Cwd: "/"})
	if err != nil {
		d.Fatal(err)
	}
	path := runtimedir.SocketPath(runtimedir.Path(d.runtime, os.Getuid()), conf.QueueDir)
	for _, dir := range []string{filepath.Dir(d.workspace), d.runtime, filepath.Dir(path)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			d.Fatal(err)
		}
	}
	if err := os.Chmod(path, 0o666); err != nil {
		d.Fatal(err)
	}
	return path
}

// callAll is a role: it makes all attempts.
func callAll(input []byte) (any, error) {
	var attempts []attempt
	if err := json.Unmarshal(input, &attempts); err != nil {
		return nil, err
	}
	outcomes := make([]outcome, len(attempts))
	var g errgroup.Group
	g.SetLimit(8)
	for i, a := range attempts {
		g.Go(func() (err error) {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			line := wiretap{once: func() {
				// Streams that go on for ever are left.
				time.AfterFunc(time.Second, cancel)
			}}
			if a.RPC != "" {
				outcomes[i].Answered, err = line.callRPC(ctx, a)
			} else {
				outcomes[i].Answered, err = line.callRoute(ctx, a)
			}
			outcomes[i].Heard = line.heard.Load()
			return err
		})
	}
	return outcomes, g.Wait()
}

// wiretap dials, and counts what comes back.
type wiretap struct {
	heard atomic.Int64
	once  func() // called for the first bytes
}

type tapped struct {
	net.Conn
	line *wiretap
}

func (c tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if sum := c.line.heard.Add(int64(n)); n > 0 && sum == int64(n) {
		c.line.once()
	}
	return n, err
}

func (w *wiretap) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return tapped{c, w}, nil
}

// callRPC sends an empty message, which is one of any type, and returns the code of
// the answer.
func (w *wiretap) callRPC(ctx context.Context, a attempt) (string, error) {
	conn, err := grpc.NewClient("passthrough:///door",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w.dial(ctx, a.Network, a.Addr) }))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, a.RPC)
	if err == nil {
		_ = stream.SendMsg(new(emptypb.Empty)) // what is wrong with it, RecvMsg tells
		_ = stream.CloseSend()
		err = stream.RecvMsg(new(emptypb.Empty))
	}
	return status.Code(err).String(), nil
}

// callRoute sends a request without a body, and returns the status of the answer.
func (w *wiretap) callRoute(ctx context.Context, a attempt) (string, error) {
	client := http.Client{Transport: &http.Transport{DialContext: w.dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, a.Route.Method, "http://"+a.Addr+filled(a.Route.Path), nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Sprint(err), nil //nolint:nilerr // it is the outcome
	}
	defer resp.Body.Close()
	return resp.Status, nil
}
