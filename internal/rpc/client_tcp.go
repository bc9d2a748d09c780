package rpc

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// tcpRoute is how a Client reaches an address instead of a socket.
type tcpRoute struct {
	addr   string // HOST:PORT to dial
	owners *access.Owners
	tls    bool
	cert   *access.Certificate
	token  access.Token
	word   string // instead of the token
}

// routeTo reads the address as the server does: loopback is dialled plainly, and
// only if the listener is our own; any other host with TLS and the token.
func routeTo(t Target) (*tcpRoute, error) {
	plan, err := access.ParsePlan(t.Addr, t.Cert != nil)
	if err != nil {
		return nil, err
	}
	r := &tcpRoute{addr: t.Addr, tls: plan.TLS, cert: t.Cert, token: t.Token, word: t.Word}
	if plan.TLS {
		if len(plan.Addrs) == 1 && plan.Addrs[0].IsUnspecified() {
			r.addr = net.JoinHostPort("localhost", strconv.Itoa(int(plan.Port)))
		}
		return r, nil
	}
	r.owners, err = access.NewOwners()
	return r, err
}

// connect makes one connection.
func (r *tcpRoute) connect(ctx context.Context, t Target) (net.Conn, error) {
	var conn net.Conn
	var err error
	if r.tls {
		var nd net.Dialer
		conn, err = nd.DialContext(ctx, "tcp", r.addr)
	} else {
		d := access.Dialer{UID: uint32(os.Geteuid()), Owners: r.owners}
		conn, err = d.Dial(ctx, r.addr)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, &task.Error{
			Code:    task.CodeUnavailable,
			Message: "nobody listens at " + r.addr + ", which " + t.Wording.AddrFrom + " names; " + t.Wording.Absent,
			Err:     errors.Join(ErrNoDaemon, err),
		}
	}
	return conn, err
}

// options are those of gRPC that depend on the route. failed is told why a handshake failed,
// of which gRPC makes a text.
func (r *tcpRoute) options(failed func(error)) []grpc.DialOption {
	if !r.tls {
		// The dialer has made sure who listens, and the kernel carries the bytes.
		ours := func(net.Conn) (Peer, error) { return Peer{UID: uint32(os.Geteuid()), Via: viaTCP}, nil }
		return []grpc.DialOption{grpc.WithTransportCredentials(peerCreds{doors: doors{"tcp": ours}}), grpc.WithAuthority("localhost")}
	}
	var call credentials.PerRPCCredentials = access.CallCreds{Token: r.token}
	if r.word != "" {
		call = access.WordCreds{Word: r.word}
	}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(tellingCreds{TransportCredentials: credentials.NewTLS(r.cert.ClientTLS()), addr: r.addr, failed: failed}),
		grpc.WithPerRPCCredentials(call),
		grpc.WithAuthority(r.addr),
	}
}

func (r *tcpRoute) close() error {
	if r.owners == nil {
		return nil
	}
	return r.owners.Close()
}

// tellingCreds are TLS's, and say why a handshake failed.
type tellingCreds struct {
	credentials.TransportCredentials
	addr   string
	failed func(error)
}

// ClientHandshake does the handshake.
func (c tellingCreds) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		c.failed(task.Errorf(task.CodeUnavailable,
			"no TLS connection to %s: %w; is its address one that was given to access tls, and cert.pem the one that the daemon there has now? (docs/other-hosts.md)", c.addr, err))
	}
	return conn, info, err
}

// Clone copies them.
func (c tellingCreds) Clone() credentials.TransportCredentials {
	c.TransportCredentials = c.TransportCredentials.Clone()
	return c
}
