package access

import (
	"context"
	"net"

	"google.golang.org/grpc/peer"
)

// Peer is who is at the other end of a connection.
type Peer struct {
	// UID is what the kernel said, or whose the token is.
	UID uint32
	// ByToken peers are not known to the kernel: they have the token.
	ByToken bool
	// Scope is whose secret a peer has that may make some calls only, in that name; "" =
	// it may make all.
	Scope string
	// Restricted peers may read /health and /metrics over HTTP, and nothing else.
	Restricted bool
}

// String names the peer for people: "uid 1000 (alice)".
func (p Peer) String() string { return userText(p.UID) }

type peerKey struct{}

// connKey finds the connection of a request whose sender the kernel has not named.
type connKey struct{}

// ConnContext is for http.Server.ConnContext: it lets PeerFrom find the peer of a
// request, and a TokenGuard the connection.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	if p, ok := PeerOf(conn); ok {
		return withPeer(ctx, p)
	}
	if c := gated(conn); c != nil {
		return context.WithValue(ctx, connKey{}, c)
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
