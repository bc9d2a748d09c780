package api

import (
	"context"
	"fmt"
	"net"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/peer"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Peer is who is at the other end of a connection, as the kernel tells it.
type Peer struct {
	UID uint32
	PID int32  // 0 when it is not known
	Via string // by which door: "socket"
}

// String names the peer for people: "uid 1000 (alice)".
func (p Peer) String() string {
	if name := userName(p.UID); name != "" {
		return fmt.Sprintf("uid %d (%s)", p.UID, name)
	}
	return fmt.Sprintf("uid %d", p.UID)
}

// PeerFrom returns who sent the request that is being handled.
func PeerFrom(ctx context.Context) (Peer, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Peer{}, false
	}
	info, ok := p.AuthInfo.(authInfo)
	return info.Peer, ok
}

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
		cred, err := peerCredentials(conn)
		if err != nil {
			return Peer{}, err
		}
		if cred.Uid != uid {
			return Peer{}, task.Errorf(task.CodeConflict, "the process at the other end belongs to uid %d, and this one to uid %d", cred.Uid, uid)
		}
		return Peer{UID: cred.Uid, PID: cred.Pid, Via: "socket"}, nil
	}
}

// peerCredentials asks the kernel. On the server's side it names the process
// that connected; on the client's side the one that called listen.
func peerCredentials(conn net.Conn) (*unix.Ucred, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("peer of a %T cannot be looked up", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var getErr error
	err = raw.Control(func(fd uintptr) {
		cred, getErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err == nil {
		err = getErr
	}
	if err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	return cred, nil
}

func userName(uid uint32) string {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return "" // a number does as well
	}
	return u.Username
}
