package probe_test

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

func TestTCP(t *testing.T) {
	t.Parallel()
	expect(t, run(t, probe.TCP, serve(t, untilLeft)), nil, "accepts connections")
	expect(t, run(t, probe.TCP, refusing(t)), probe.ErrRefused, "connection refused by 127.0.0.1:")
}

// The engine's proxy accepts at once, and hangs up when nothing listens behind it.
func TestTCPBehindTheProxyMustStayOpen(t *testing.T) {
	t.Parallel()
	s := probe.Spec{Kind: probe.TCP, Port: 9000, Timeout: 2 * patience}
	for name, tc := range map[string]struct {
		answer func(net.Conn)
		want   error
		says   string
	}{
		"open":   {untilLeft, nil, "keeps them open"},
		"greets": {func(conn net.Conn) { _, _ = conn.Write([]byte("220 hello\r\n")) }, nil, "greets"},
		"closed": {func(net.Conn) {}, probe.ErrClosed, "until the service listens"},
		"reset":  {reset, probe.ErrClosed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := at(serve(t, tc.answer))
			target.Published = true
			if name != "open" {
				target.Hold = patience // there is an end to be seen, sooner or later
			}
			r := probe.Run(t.Context(), s, target)
			expect(t, r, tc.want, tc.says)
			if name == "open" && r.Took < 100*time.Millisecond {
				t.Errorf("watched for %v only", r.Took)
			}
		})
	}
}

// reset hangs up the hard way.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}

// An address that is given may be a published port as well.
func TestTCPAtAGivenHost(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddrPort(serve(t, func(net.Conn) {}))
	s := probe.Spec{Kind: probe.TCP, Host: "127.0.0.1", Port: int(addr.Port()), Timeout: 2 * patience}
	expect(t, probe.Run(t.Context(), s, probe.Target{Hold: patience}), probe.ErrClosed, "")
}

func TestIPv6(t *testing.T) {
	t.Parallel()
	if lis, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("this machine has no IPv6: %v; on one that has, run it again", err)
	} else {
		_ = lis.Close()
	}
	addr := serveAt(t, "[::1]:0", saying("+PONG\r\n"))
	expect(t, run(t, probe.Redis, addr), nil, "PONG")
	for _, host := range []string{"::1", "localhost"} { // nothing listens at 127.0.0.1
		s := probe.Spec{Kind: probe.Redis, Host: host, Port: portOf(t, addr), Timeout: patience}
		expect(t, probe.Run(t.Context(), s, probe.Target{}), nil, "PONG")
	}
}

func TestLocalhost(t *testing.T) {
	t.Parallel()
	s := probe.Spec{Kind: probe.Redis, Host: "localhost", Port: portOf(t, serve(t, saying("+PONG\r\n"))), Timeout: patience}
	expect(t, probe.Run(t.Context(), s, probe.Target{}), nil, "PONG")
	s.Port = portOf(t, refusing(t))
	expect(t, probe.Run(t.Context(), s, probe.Target{}), probe.ErrRefused, "")
}

func TestNoAddress(t *testing.T) {
	t.Parallel()
	s := probe.Spec{Kind: probe.Kafka}
	for _, target := range []probe.Target{{}, at("")} {
		expect(t, probe.Run(t.Context(), s, target), probe.ErrUnreachable, "port 9092 of the container cannot be reached")
	}
	for _, addr := range []string{"redis:6379", "127.0.0.1", "127.0.0.1:http", ":6379", "127.0.0.1:99999", "localhost:http"} {
		expect(t, probe.Run(t.Context(), s, at(addr)), probe.ErrSpec, "must be IP:port")
	}
	asked := 0
	probe.Run(t.Context(), probe.Spec{Kind: probe.TCP, Port: 9000}, probe.Target{Addr: func(port int) string { asked = port; return "" }})
	if asked != 9000 {
		t.Errorf("port %d was asked for", asked)
	}
}

// deaf is an address where connections are not even accepted: its backlog is full.
func deaf(t *testing.T) string {
	t.Helper()
	fd, addr := bound(t)
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for { // until nobody else gets in
		conn, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}

func TestNoConnectionInTime(t *testing.T) {
	t.Parallel()
	addr := deaf(t)
	for range 5 { // the dialer and the context see the end in either order
		r := probe.Run(t.Context(), probe.Spec{Kind: probe.Redis, Timeout: probe.MinTimeout}, at(addr))
		expect(t, r, probe.ErrSilent, "no connection to "+addr+" within 200ms")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r := probe.Run(ctx, probe.Spec{Kind: probe.Redis, Timeout: patience}, at(addr))
	expect(t, r, context.DeadlineExceeded, "given up")
}
