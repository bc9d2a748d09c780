package access_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/dspy-agent/dspy-agent/internal/access"
)

// A grpcServer listens without TLS, behind one Gate, and with TLS.
type grpcServer struct {
	plain, secure string
	gate          *access.Gate
	cert          *access.Certificate
	token         access.Token
	health        *health.Server
	lastPeer      chan access.Peer
}

func grpcServing(t *testing.T, o access.GateOptions) *grpcServer {
	t.Helper()
	dir := secrets(t)
	s := &grpcServer{lastPeer: make(chan access.Peer, 100)}
	var err error
	if s.cert, err = serverCert(dir, ourUID(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if s.token, err = readToken(dir, ourUID()); err != nil {
		t.Fatal(err)
	}
	o.Owners = ownersBy(t, access.ByNetlink)
	s.gate = newGate(t, o)
	guard := access.TokenGuard{Token: s.token, UID: ourUID()}
	server := grpc.NewServer(grpc.Creds(gateCreds{}), grpc.InTapHandle(guard.Tap), grpc.UnaryInterceptor(s.remember))
	s.health = health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, s.health)
	plain, secure := listening(t, "tcp4", "127.0.0.1:0"), listening(t, "tcp4", "127.0.0.1:0")
	s.plain, s.secure = plain.Addr().String(), secure.Addr().String()
	done := make(chan error, 2)
	go func() { done <- server.Serve(s.gate.Loopback(plain)) }()
	go func() { done <- server.Serve(s.gate.TLS(secure, s.cert.ServerTLS())) }()
	t.Cleanup(func() {
		server.Stop()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func (s *grpcServer) remember(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	p, _ := access.PeerFrom(ctx)
	s.lastPeer <- p
	return handle(ctx, req)
}

// gateCreds is a server's handshake.
type gateCreds struct {
	credentials.TransportCredentials
}

func (gateCreds) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return access.Handshake(conn)
}

func (c gateCreds) Clone() credentials.TransportCredentials { return c }

func (gateCreds) Info() credentials.ProtocolInfo { return credentials.ProtocolInfo{} }

// calls makes one call and opens one stream, and returns the code of each.
func calls(t *testing.T, addr string, opts ...grpc.DialOption) (unary, stream codes.Code) {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+addr, append(opts, grpc.WithNoProxy())...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	client := grpc_health_v1.NewHealthClient(cc)
	_, err = client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	watch, streamErr := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if streamErr == nil {
		_, streamErr = watch.Recv()
	}
	return status.Code(err), status.Code(streamErr)
}

func TestGRPC(t *testing.T) {
	s := grpcServing(t, access.GateOptions{UID: ourUID()})
	other, err := readToken(secrets(t), ourUID())
	if err != nil {
		t.Fatal(err)
	}
	otherCert, err := serverCert(secrets(t), ourUID(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	d := access.Dialer{UID: ourUID(), Owners: ownersBy(t, access.ByNetlink)}
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	pinned := grpc.WithTransportCredentials(credentials.NewTLS(s.cert.ClientTLS()))
	token := func(tok access.Token) grpc.DialOption {
		return grpc.WithPerRPCCredentials(access.CallCreds{Token: tok})
	}
	for name, tc := range map[string]struct {
		addr string
		opts []grpc.DialOption
		want codes.Code
	}{
		"loopback, no token": {s.plain, []grpc.DialOption{plain, grpc.WithContextDialer(d.Dial)}, codes.OK},
		"TLS and token":      {s.secure, []grpc.DialOption{pinned, token(s.token)}, codes.OK},
		"TLS, no token":      {s.secure, []grpc.DialOption{pinned}, codes.Unauthenticated},
		"TLS, another token": {s.secure, []grpc.DialOption{pinned, token(other)}, codes.Unauthenticated},
		"without TLS":        {s.secure, []grpc.DialOption{plain}, codes.Unavailable},
		"another server's certificate": {s.secure, []grpc.DialOption{
			grpc.WithTransportCredentials(credentials.NewTLS(otherCert.ClientTLS())), token(s.token),
		}, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			if unary, stream := calls(t, tc.addr, tc.opts...); unary != tc.want || stream != tc.want {
				t.Errorf("call %s, stream %s; want %s", unary, stream, tc.want)
			}
		})
	}
}

// TestGRPCPeer tells the handlers who calls.
func TestGRPCPeer(t *testing.T) {
	s := grpcServing(t, access.GateOptions{UID: ourUID()})
	pinned := grpc.WithTransportCredentials(credentials.NewTLS(s.cert.ClientTLS()))
	for name, tc := range map[string]struct {
		addr string
		opts []grpc.DialOption
		want access.Peer
	}{
		"loopback": {s.plain, []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, access.Peer{UID: ourUID()}},
		"TLS": {s.secure, []grpc.DialOption{pinned, grpc.WithPerRPCCredentials(access.CallCreds{Token: s.token})},
			access.Peer{UID: ourUID(), ByToken: true}},
	} {
		if unary, _ := calls(t, tc.addr, tc.opts...); unary != codes.OK {
			t.Fatal(name, unary)
		}
		if got := <-s.lastPeer; got != tc.want {
			t.Errorf("%s: the handler was told of %+v", name, got)
		}
	}
}

// TestTokenIsNotSentInTheClear: gRPC refuses to.
func TestTokenIsNotSentInTheClear(t *testing.T) {
	_, err := grpc.NewClient("passthrough:///127.0.0.1:1", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(access.CallCreds{}))
	if err == nil {
		t.Error("a client that would send it was made")
	}
}

// TestGRPCRefusesRestricted: a user who may read metrics is not let to gRPC.
func TestGRPCRefusesRestricted(t *testing.T) {
	s := grpcServing(t, access.GateOptions{UID: serverUID(t), MetricsUIDs: []uint32{strangerUID(t)}})
	if got := output(t, stranger(t, "knock", s.plain, "send and wait", "5"))[0]; got != "connected 5 times, heard 0 bytes" {
		t.Errorf("a restricted user %s", got)
	}
}

// TestGRPCRefusesWhatCameThroughNoGate: a listener that somebody forgot to guard.
func TestGRPCRefusesWhatCameThroughNoGate(t *testing.T) {
	server := grpc.NewServer(grpc.Creds(gateCreds{}))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	lis := listening(t, "tcp4", "127.0.0.1:0")
	done := make(chan error, 1)
	go func() { done <- server.Serve(lis) }()
	defer func() { server.Stop(); <-done }()
	if unary, _ := calls(t, lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())); unary != codes.Unavailable {
		t.Errorf("a call without a gate: %s", unary)
	}
}

// TestZeroGuardRefuses: no token is no way in.
func TestZeroGuardRefuses(t *testing.T) {
	for name, ctx := range map[string]context.Context{
		"nobody":  t.Context(),
		"no name": peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{}}),
	} {
		for _, header := range []metadata.MD{nil, metadata.Pairs("authorization", "Bearer ")} {
			if _, err := (access.TokenGuard{}).Tap(ctx, &tap.Info{Header: header}); status.Code(err) != codes.Unauthenticated {
				t.Errorf("%s, %v: %v", name, header, err)
			}
		}
	}
}

// TestTLSLimit: whoever reaches a listener with TLS can hold no more than its places.
func TestTLSLimit(t *testing.T) {
	cert, err := serverCert(secrets(t), ourUID(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	lis := listening(t, "tcp4", "127.0.0.1:0")
	gate := newGate(t, access.GateOptions{UID: ourUID(), Owners: ownersBy(t, access.ByNetlink), MaxTLS: 1})
	rec := record(gate.TLS(lis, cert.ServerTLS()))
	defer rec.close()
	dial := func() (*tls.Conn, error) {
		raw, err := net.Dial("tcp4", lis.Addr().String())
		if err != nil {
			return nil, err
		}
		conf := cert.ClientTLS()
		conf.ServerName = "localhost"
		conn := tls.Client(raw, conf)
		_, err = io.ReadFull(conn, make([]byte, len("welcome\n")))
		return conn, err
	}
	first, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	if second, err := dial(); err == nil {
		t.Error("a second connection was let in")
		_ = second.Close()
	}
	_ = first.Close()
	eventually(t, "the place is given back", func() bool {
		c, err := dial()
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}
