package access

import (
	"context"
	"errors"
	"net"
	"sync"

	"google.golang.org/grpc/peer"
)

// Peer is who is at the other end of a connection.
type Peer struct {
	// UID is what the kernel said, or whose the token is.
	UID uint32
	// ByToken peers are not known to the kernel: they have the token.
	ByToken bool
	// Restricted peers may read /health and /metrics over HTTP, and nothing else.
	Restricted bool
}

// String names the peer for people: "uid 1000 (alice)".
func (p Peer) String() string { return userText(p.UID) }

// Conn is a connection that a Gate has let in. Its place among the connections
// that may be open is given back by Close.
type Conn struct {
	net.Conn
	who     Peer
	proven  bool // who is known; else the token has to say
	release func()
	once    sync.Once
}

// Close closes the connection.
func (c *Conn) Close() error {
	defer c.once.Do(c.release)
	return c.Conn.Close()
}

// SetLinger is that of the TCP connection (net.TCPConn).
func (c *Conn) SetLinger(seconds int) error {
	if tcp, ok := c.Conn.(lingerer); ok {
		return tcp.SetLinger(seconds)
	}
	return errors.ErrUnsupported
}

// PeerOf returns who is at the other end of a connection from a Gate. It is
// false for any other connection, and for one with TLS, where a token says it.
func PeerOf(conn net.Conn) (Peer, bool) {
	for {
		switch c := conn.(type) {
		case *Conn:
			return c.who, c.proven
		case interface{ NetConn() net.Conn }: // tls.Conn
			conn = c.NetConn()
		default:
			return Peer{}, false
		}
	}
}

type peerKey struct{}

// ConnContext is for http.Server.ConnContext: it lets PeerFrom find the peer of a
// request.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	if p, ok := PeerOf(conn); ok {
		return withPeer(ctx, p)
	}
	return ctx
}

// PeerFrom returns who sent a request, over HTTP or gRPC. Behind a TokenGuard
// there is always somebody.
func PeerFrom(ctx context.Context) (Peer, bool) {
	if p, ok := ctx.Value(peerKey{}).(Peer); ok {
		return p, true
	}
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(AuthInfo); ok {
			return info.Peer, true
		}
	}
	return Peer{}, false
}

// withPeer lets PeerFrom find a peer.
func withPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}
