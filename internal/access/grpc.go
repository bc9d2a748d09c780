package access

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// AuthInfo carries a peer whom the kernel has named to the handlers.
type AuthInfo struct {
	credentials.CommonAuthInfo
	Peer Peer
}

// AuthType names the way in which the peer was recognised.
func (AuthInfo) AuthType() string { return "socket-owner" }

// ProvenByKernel tells a TokenGuard that no token is needed.
func (AuthInfo) ProvenByKernel() bool { return true }

// Handshake is gRPC's for listeners of a Gate: it takes over the peer that the
// Gate has found, makes the TLS handshake where there is TLS, and refuses
// restricted peers and whatever did not come through a Gate. gRPC has it called,
// on a goroutine of the connection, before it reads the first byte, and closes
// the connection if it fails.
func Handshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	who, proven := PeerOf(conn)
	secure, isTLS := conn.(*tls.Conn)
	switch {
	case proven && who.Restricted:
		reset(conn)
		return nil, nil, ErrRestricted
	case proven && !isTLS:
		// The kernel carries the bytes between two processes of one user.
		level := credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
		return conn, AuthInfo{CommonAuthInfo: level, Peer: who}, nil
	case isTLS && !proven:
		return tlsHandshake(secure)
	}
	return nil, nil, fmt.Errorf("%w: the connection came through no gate", ErrLookup)
}

// tlsHandshake is bounded by the deadline that gRPC sets (ConnectionTimeout).
func tlsHandshake(conn *tls.Conn) (net.Conn, credentials.AuthInfo, error) {
	if err := conn.HandshakeContext(context.Background()); err != nil {
		return nil, nil, fmt.Errorf("TLS: %w", err)
	}
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != "h2" {
		return nil, nil, errors.New("TLS: the client speaks no HTTP/2 (ALPN), which gRPC needs")
	}
	return conn, tlsAuth{
		TLSInfo: credentials.TLSInfo{
			State:          state,
			CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		},
		conn: gated(conn),
	}, nil
}

// tlsAuth takes a connection with TLS along to the TokenGuard.
type tlsAuth struct {
	credentials.TLSInfo
	conn *Conn
}

// TokenGuard asks for the token wherever the kernel has not named the peer. The
// zero TokenGuard lets nobody in whom the kernel has not named.
type TokenGuard struct {
	Token Token
	UID   uint32 // whose token it is
	// Scopes says whose secret a word is that opens the method and not everything. May
	// be nil.
	Scopes func(method, word string) (scope string, ok bool)
}

// Tap is for grpc.InTapHandle: it looks at each call as soon as its header is
// there, so that nothing more is taken in from those without a token, and returns
// its context with the peer. The peer counts as named if its AuthInfo has a method
// ProvenByKernel that says so.
func (g TokenGuard) Tap(ctx context.Context, call *tap.Info) (context.Context, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, errNoToken()
	}
	if named, ok := p.AuthInfo.(interface{ ProvenByKernel() bool }); ok && named.ProvenByKernel() {
		return ctx, nil
	}
	who, ok := g.admit(call)
	if !ok {
		return nil, errNoToken()
	}
	if secure, ok := p.AuthInfo.(tlsAuth); ok {
		secure.conn.prove()
	}
	return withPeer(ctx, who), nil
}

// admit says who makes a call, by what stands in its header.
func (g TokenGuard) admit(call *tap.Info) (Peer, bool) {
	headers := call.Header.Get("authorization")
	if g.Token.allows(headers) {
		return g.holder(), true
	}
	if g.Scopes == nil || len(headers) != 1 {
		return Peer{}, false
	}
	word, ok := strings.CutPrefix(headers[0], bearer)
	if !ok {
		return Peer{}, false
	}
	scope, ok := g.Scopes(call.FullMethodName, word)
	return Peer{UID: g.UID, ByToken: true, Scope: scope}, ok && scope != ""
}

func errNoToken() error { return status.Error(codes.Unauthenticated, tokenText) }

// holder is who has the token.
func (g TokenGuard) holder() Peer { return Peer{UID: g.UID, ByToken: true} }

const tokenText = "the token is missing or wrong; send \"authorization: Bearer TOKEN\", with what 'dspy-agent access token' made on the server"

// CallCreds sends the token with every call of a client, over TLS only.
type CallCreds struct{ Token Token }

// GetRequestMetadata returns the header with the token.
func (c CallCreds) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": c.Token.header()}, nil
}

// RequireTransportSecurity keeps gRPC from sending the token in the clear.
func (CallCreds) RequireTransportSecurity() bool { return true }

// WordCreds sends a secret that opens some calls, over TLS only.
type WordCreds struct{ Word string }

// GetRequestMetadata returns the header with the secret.
func (c WordCreds) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": bearer + c.Word}, nil
}

// RequireTransportSecurity keeps gRPC from sending the secret in the clear.
func (WordCreds) RequireTransportSecurity() bool { return true }
