package access_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dspy-agent/dspy-agent/internal/access"
)

// tokenTime is enough for a client with the token on a machine that is busy.
const tokenTime = 2 * time.Second

// cutOff says whether the server ends the connection, whatever it says before.
func cutOff(t *testing.T, c net.Conn) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err := io.Copy(io.Discard, c)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// tokenless makes a connection that shows no token, and speaks so far.
func tokenless(t *testing.T, addr string, conf *tls.Config, say string) net.Conn {
	t.Helper()
	raw, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	if conf == nil {
		return raw
	}
	conf.ServerName = "localhost"
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, say); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestGRPCWithoutTokenIsCutOff: whoever does not show the token in time is gone,
// however far they came; a stream of somebody who did stays.
func TestGRPCWithoutTokenIsCutOff(t *testing.T) {
	t.Parallel()
	s := grpcServing(t, access.GateOptions{UID: ourUID(), TokenTimeout: tokenTime})
	cc, err := grpc.NewClient("passthrough:///"+s.secure, grpc.WithNoProxy(),
		grpc.WithTransportCredentials(credentials.NewTLS(s.cert.ClientTLS())),
		grpc.WithPerRPCCredentials(access.CallCreds{Token: s.token}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	watch, err := grpc_health_v1.NewHealthClient(cc).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		_, err = watch.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	h2 := func() *tls.Config {
		conf := s.cert.ClientTLS()
		conf.NextProtos = []string{"h2"}
		return conf
	}
	// The preface of HTTP/2 and empty settings, after which gRPC waits for calls.
	const opened = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for name, c := range map[string]net.Conn{
		"no handshake": tokenless(t, s.secure, nil, ""),
		"no preface":   tokenless(t, s.secure, h2(), ""),
		"no call":      tokenless(t, s.secure, h2(), opened),
	} {
		if !cutOff(t, c) {
			t.Errorf("%s: the connection stays", name)
		}
	}
	// All of these began after the watch did, so its time was up as well.
	s.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	if got, err := watch.Recv(); err != nil || got.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("the stream that had shown the token: %v, %v", got, err)
	}
}

// TestHTTPWithoutTokenIsCutOff: the same for HTTP, which keeps connections open
// between requests.
func TestHTTPWithoutTokenIsCutOff(t *testing.T) {
	t.Parallel()
	dir := secrets(t)
	cert, err := serverCert(dir, ourUID(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	token, err := readToken(dir, ourUID())
	if err != nil {
		t.Fatal(err)
	}
	gate := newGate(t, access.GateOptions{UID: ourUID(), Owners: ownersBy(t, access.ByNetlink), TokenTimeout: tokenTime})
	lis := listening(t, "tcp4", "127.0.0.1:0")
	httpServing(t, gate.TLS(lis, cert.ServerTLS()), access.TokenGuard{Token: token}.Wrap)
	addr := lis.Addr().String()
	const request = "GET / HTTP/1.1\r\nHost: localhost\r\n"
	proven := tokenless(t, addr, cert.ClientTLS(), request+"Authorization: Bearer "+tokenText(t, dir)+"\r\n\r\n")
	ask := func(want int) {
		t.Helper()
		if got := firstStatus(t, proven); got != want {
			t.Errorf("status %d, want %d", got, want)
		}
	}
	ask(http.StatusOK)
	for name, c := range map[string]net.Conn{
		"no handshake":  tokenless(t, addr, nil, ""),
		"no request":    tokenless(t, addr, cert.ClientTLS(), ""),
		"half a header": tokenless(t, addr, cert.ClientTLS(), request),
		"no token":      tokenless(t, addr, cert.ClientTLS(), request+"\r\n"),
	} {
		if !cutOff(t, c) {
			t.Errorf("%s: the connection stays", name)
		}
	}
	if _, err := io.WriteString(proven, request+"\r\n"); err != nil {
		t.Fatal(err)
	}
	ask(http.StatusUnauthorized) // every request shows it; the connection stays
}

// firstStatus reads one short answer.
func firstStatus(t *testing.T, c net.Conn) int {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// TestOneAddressTakesFewPlaces: without the token nobody holds more than a few
// places, so that others still come in; and their end gives the places back.
func TestOneAddressTakesFewPlaces(t *testing.T) {
	s := grpcServing(t, access.GateOptions{UID: ourUID(), TokenTimeout: time.Minute, MaxTLS: 8, MaxUnproven: 3, MaxUnprovenPerHost: 2})
	from := func(host string) (*tls.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
		raw, err := d.DialContext(t.Context(), "tcp4", s.secure)
		if err != nil {
			return nil, err // a refusal can be quicker than the dial
		}
		t.Cleanup(func() { _ = raw.Close() })
		conf := s.cert.ClientTLS()
		conf.ServerName, conf.NextProtos = "localhost", []string{"h2"}
		c := tls.Client(raw, conf)
		return c, c.HandshakeContext(t.Context())
	}
	const one, two, three = "127.0.0.1", "127.0.0.2", "127.0.0.3"
	var open []*tls.Conn
	for _, tc := range []struct {
		host string
		in   bool
	}{{one, true}, {one, true}, {one, false}, {two, true}, {three, false}} {
		c, err := from(tc.host)
		if (err == nil) != tc.in {
			t.Fatalf("with %d open, one more from %s: %v", len(open), tc.host, err)
		}
		if err == nil {
			open = append(open, c)
		}
	}
	_ = open[0].Close()
	eventually(t, "the place is given back", func() bool {
		unary, _ := calls(t, s.secure, grpc.WithTransportCredentials(credentials.NewTLS(s.cert.ClientTLS())),
			grpc.WithPerRPCCredentials(access.CallCreds{Token: s.token}))
		return unary == codes.OK
	})
	// Those that have shown it take none of these places.
	for range 4 {
		cc, err := grpc.NewClient("passthrough:///"+s.secure, grpc.WithNoProxy(),
			grpc.WithTransportCredentials(credentials.NewTLS(s.cert.ClientTLS())), grpc.WithPerRPCCredentials(access.CallCreds{Token: s.token}))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = cc.Close() }()
		if _, err := grpc_health_v1.NewHealthClient(cc).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
			t.Fatal(err)
		}
	}
}
