package rpc

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os/user"
	"strconv"

	"google.golang.org/grpc/peer"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Peer is who is at the other end of a connection, as the kernel tells it.
type Peer struct {
	UID uint32
	PID int32  // 0 when it is not known
	Via string // by which door: "socket", "grpc" or "http"
}

// String names the peer for people: "uid 1000 (alice)".
func (p Peer) String() string {
	if name := userName(p.UID); name != "" {
		return fmt.Sprintf("uid %d (%s)", p.UID, name)
	}
	return fmt.Sprintf("uid %d", p.UID)
}

// peerKey finds the Peer of an HTTP request in its context; that of a gRPC call is
// where gRPC keeps it.
type peerKey struct{}

// PeerFrom returns who sent the request that is being handled.
func PeerFrom(ctx context.Context) (Peer, bool) {
	if who, ok := ctx.Value(peerKey{}).(Peer); ok {
		return who, true
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Peer{}, false
	}
	switch info := p.AuthInfo.(type) {
	case authInfo:
		return info.Peer, true
	default:
		who, ok := access.PeerFrom(ctx)
		return Peer{UID: who.UID, Via: viaTCP}, ok
	}
}

// GatePeer is HTTPOptions.Peer where listeners are behind an access.Gate.
func GatePeer(r *http.Request) (who Peer, ok bool) {
	p, ok := access.PeerFrom(r.Context())
	return Peer{UID: p.UID}, ok
}

// viaTCP is the door for programs that speak gRPC over TCP.
const viaTCP = "grpc"

// door decides whether the other end of a connection may talk to us. Each kind
// of listener has its own.
type door func(net.Conn) (Peer, error)

// doors is the policy of who may connect, by network. What has no entry is
// refused.
type doors map[string]door

func (d doors) admit(conn net.Conn) (Peer, error) {
	network := conn.LocalAddr().Network()
	open, ok := d[network]
	if !ok {
		return Peer{}, task.Errorf(task.CodeUnsupported, "connections over %s are not accepted", network)
	}
	return open(conn)
}

// sameUser admits processes of one user. Root is another user: a root shell that
// means to act for somebody becomes them first (su, sudo -u), so that what it
// submits does not run as it.
func sameUser(uid uint32) door {
	return func(conn net.Conn) (Peer, error) {
		p, err := host.PeerOf(conn)
		if err != nil {
			return Peer{}, err
		}
		if p.UID != uid {
			return Peer{}, task.Errorf(task.CodeConflict, "the process at the other end belongs to uid %d, and this one to uid %d", p.UID, uid)
		}
		return Peer{UID: p.UID, PID: p.PID, Via: "socket"}, nil
	}
}

func userName(uid uint32) string {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return "" // a number does as well
	}
	return u.Username
}
