package host

import (
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Peer is the process at the other end of a Unix socket.
type Peer struct {
	PID int32 // in our pid namespace; 0 = it has none there
	UID uint32
}

// PeerOf asks the kernel who is at the other end. On the side that accepted it
// is the process that connected; on the other side the one that called listen.
func PeerOf(conn net.Conn) (Peer, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return Peer{}, fmt.Errorf("the peer of a %T cannot be looked up", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("peer credentials: %w", err)
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
		return Peer{}, fmt.Errorf("peer credentials: %w", err)
	}
	return Peer{PID: cred.Pid, UID: cred.Uid}, nil
}
