package rpc

import (
	"context"
	"net"

	"google.golang.org/grpc/credentials"

	"github.com/dspy-agent/dspy-agent/internal/access"
)

// peerCreds is gRPC's handshake: it lets a connection in or not, and exchanges
// nothing. gRPC calls it before it reads the first byte.
type peerCreds struct {
	doors   doors
	refused func(net.Conn, error) // told of each connection that was refused; may be nil
}

// authInfo carries the peer to the handlers.
type authInfo struct {
	credentials.CommonAuthInfo
	Peer Peer
}

// AuthType names the way in which the peer was recognised.
func (authInfo) AuthType() string { return "peer-credentials" }

// ProvenByKernel tells access.TokenGuard that no token is needed.
func (authInfo) ProvenByKernel() bool { return true }

// ServerHandshake admits the client or fails, upon which gRPC closes the connection.
// What comes over TCP has been through a Gate.
func (c peerCreds) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if conn.LocalAddr().Network() != "tcp" {
		return c.handshake(conn)
	}
	admitted, info, err := access.Handshake(conn)
	if err != nil && c.refused != nil {
		c.refused(conn, err)
	}
	return admitted, info, err
}

// ClientHandshake makes sure that we talk to a server of our own.
func (c peerCreds) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.handshake(conn)
}

func (c peerCreds) handshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	who, err := c.doors.admit(conn)
	if err != nil {
		if c.refused != nil {
			c.refused(conn, err)
		}
		return nil, nil, err
	}
	// The kernel carries the bytes between two processes of one user.
	level := credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
	return conn, authInfo{CommonAuthInfo: level, Peer: who}, nil
}

// Info describes the handshake to gRPC.
func (peerCreds) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "peer-credentials"}
}

// Clone returns the same credentials; they have no state.
func (c peerCreds) Clone() credentials.TransportCredentials { return c }

// OverrideServerName does nothing: there are no names here.
func (peerCreds) OverrideServerName(string) error { return nil }
