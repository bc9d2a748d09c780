package probe_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is what a probe that is to succeed has on a busy machine.
const patience = 20 * time.Second

// serve answers each connection to a port of its own with a function, and returns
// where. The connection is closed when the function returns.
func serve(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	return serveAt(t, "127.0.0.1:0", answer)
}

func serveAt(t *testing.T, addr string, answer func(net.Conn)) string {
	t.Helper()
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				answer(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = lis.Close()
		wg.Wait()
	})
	return lis.Addr().String()
}

// saying answers a request with a text, and hangs up.
func saying(text string) func(net.Conn) {
	return func(conn net.Conn) {
		hear(conn)
		_, _ = conn.Write([]byte(text))
	}
}

// hear reads what there is of a request.
func hear(conn net.Conn) { _, _ = conn.Read(make([]byte, 4096)) }

// untilLeft waits until the other end has hung up.
func untilLeft(conn net.Conn) {
	for b := make([]byte, 4096); ; {
		if _, err := conn.Read(b); err != nil {
			return
		}
	}
}

// at is a target whose every port is at an address.
func at(addr string) probe.Target {
	return probe.Target{Addr: func(int) string { return addr }}
}

func run(t *testing.T, kind probe.Kind, addr string) probe.Result {
	t.Helper()
	s := probe.Spec{Kind: kind, Timeout: patience}
	if kind == probe.TCP {
		s.Port = 1
	}
	return probe.Run(t.Context(), s, at(addr))
}

// expect holds a result against what is wanted: ready, or alive, or neither; the
// sentinel, and what the detail says.
func expect(t *testing.T, r probe.Result, want error, says string) {
	t.Helper()
	alive := want == nil || errors.Is(want, probe.ErrNotReady)
	if r.Ready != (want == nil) || r.Alive != alive || !errors.Is(r.Err, want) || (r.Err == nil) != (want == nil) {
		t.Errorf("ready %v, alive %v, %v: %q; want %v", r.Ready, r.Alive, r.Err, r.Detail, want)
	}
	if !strings.Contains(r.Detail, says) {
		t.Errorf("says %q, want %q", r.Detail, says)
	}
	if r.Took < 0 || r.Took > 3*patience {
		t.Errorf("took %v", r.Took)
	}
}

// refusing is an address where nothing listens. Its port is held, so that nobody else is
// given it; a server that asks for this very port gets it.
func refusing(t *testing.T) string {
	t.Helper()
	_, addr := bound(t)
	return addr
}

// bound is a socket that has an address and does not listen.
func bound(t *testing.T) (fd int, addr string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	in, ok := name.(*syscall.SockaddrInet4)
	if err != nil || !ok {
		t.Fatalf("%v, %v", name, err)
	}
	return fd, fmt.Sprintf("127.0.0.1:%d", in.Port)
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return int(a.Port())
}

// engine is an engine of a test's own.
type engine struct {
	exec   func(ctx context.Context, id string, command []string) (int, string, error)
	health func(ctx context.Context, id string) (string, string, error)
}

func (e engine) Exec(ctx context.Context, id string, command []string) (int, string, error) {
	return e.exec(ctx, id, command)
}

func (e engine) Health(ctx context.Context, id string) (string, string, error) {
	return e.health(ctx, id)
}
