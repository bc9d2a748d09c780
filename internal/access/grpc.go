package access

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// ServerCreds is gRPC's handshake for listeners of a Gate: it takes over the
// peer that the Gate has found, makes the TLS handshake where there is TLS, and
// refuses restricted peers and whatever did not come through a Gate. gRPC calls
// it, on a goroutine of the connection, before it reads the first byte.
//
// A server that also listens on Unix sockets asks PeerOf first, as there can be
// only one handshake in a gRPC server.
type ServerCreds struct{}

// AuthInfo carries a peer whom the kernel has named to the handlers.
type AuthInfo struct {
	credentials.CommonAuthInfo
	Peer Peer
}

// AuthType names the way in which the peer was recognised.
func (AuthInfo) AuthType() string { return "socket-owner" }

// ProvenByKernel tells a TokenGuard that no token is needed.
func (AuthInfo) ProvenByKernel() bool { return true }

// ServerHandshake admits the client or fails, upon which gRPC closes the connection.
func (ServerCreds) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
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
	return conn, credentials.TLSInfo{
		State:          state,
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

// ClientHandshake fails: clients use a Dialer, or ClientTLS.
func (ServerCreds) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("access: credentials of a server")
}

// Info describes the handshake to gRPC.
func (ServerCreds) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "socket-owner"}
}

// Clone returns the same credentials; they have no state.
func (c ServerCreds) Clone() credentials.TransportCredentials { return c }

// OverrideServerName does nothing: there are no names here.
func (ServerCreds) OverrideServerName(string) error { return nil }

// TokenGuard asks for the token wherever the kernel has not named the peer. The
// zero TokenGuard lets nobody in whom the kernel has not named.
type TokenGuard struct {
	Token Token
	UID   uint32 // whose token it is
}

// check is for every call, and returns its context with the peer. The peer counts
// as named if its AuthInfo has a method ProvenByKernel that says so.
func (g TokenGuard) check(ctx context.Context) (context.Context, error) {
	if p, ok := peer.FromContext(ctx); ok {
		if named, ok := p.AuthInfo.(interface{ ProvenByKernel() bool }); ok && named.ProvenByKernel() {
			return ctx, nil
		}
	}
	if g.Token.allows(metadata.ValueFromIncomingContext(ctx, "authorization")) {
		return withPeer(ctx, g.holder()), nil
	}
	return nil, status.Error(codes.Unauthenticated, tokenText)
}

// holder is who has the token.
func (g TokenGuard) holder() Peer { return Peer{UID: g.UID, ByToken: true} }

const tokenText = "the token is missing or wrong; send \"authorization: Bearer TOKEN\", with what 'dspy-agent access token' made on the server"

// Unary is for grpc.ChainUnaryInterceptor, before all others.
func (g TokenGuard) Unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	ctx, err := g.check(ctx)
	if err != nil {
		return nil, err
	}
	return handle(ctx, req)
}

// Stream is for grpc.ChainStreamInterceptor, before all others.
func (g TokenGuard) Stream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, err := g.check(stream.Context())
	if err != nil {
		return err
	}
	return handle(srv, guardedStream{stream, ctx})
}

// guardedStream is a stream whose context knows the peer.
type guardedStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the context with the peer.
func (s guardedStream) Context() context.Context { return s.ctx }

// CallCreds sends the token with every call of a client, over TLS only.
type CallCreds struct{ Token Token }

// GetRequestMetadata returns the header with the token.
func (c CallCreds) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": c.Token.header()}, nil
}

// RequireTransportSecurity keeps gRPC from sending the token in the clear.
func (CallCreds) RequireTransportSecurity() bool { return true }
