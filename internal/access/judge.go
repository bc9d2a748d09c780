package access

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// judge says whether a socket is one that may talk to us, whoever holds it: open
// at both ends, and held by a process. A socket that its process has closed is
// shown as root's by older kernels; whose it was nobody can tell any more.
func judge(s Socket) error {
	switch {
	case s.State != Established:
		return fmt.Errorf("%w, it is in %s", ErrNotEstablished, s.State)
	case s.Inode == 0:
		return ErrOrphan
	}
	return nil
}

// identify returns who is at the other end of an accepted connection. Nothing is
// read from it, and the peer is asked for nothing.
func (g *Gate) identify(conn syscall.Conn, local, remote netip.AddrPort) (Peer, error) {
	if !local.Addr().IsLoopback() || !remote.Addr().IsLoopback() {
		return Peer{}, ErrNotLoopback
	}
	s, err := g.owners.Connected(remote, local)
	if err != nil {
		return Peer{}, err
	}
	if err := judge(s); err != nil {
		return Peer{}, err
	}
	restricted, ok := g.users.admits(s.UID)
	if !ok {
		return Peer{}, fmt.Errorf("%w, %s", ErrOtherUser, userText(s.UID))
	}
	if err := stillEstablished(conn); err != nil {
		return Peer{}, err
	}
	return Peer{UID: s.UID, Restricted: restricted}, nil
}

// stillEstablished makes sure that the socket that was found a moment ago is the
// other end of this connection, and not a later one that has its addresses: a
// peer may send, reset, and leave its port to somebody of ours, while what it
// sent waits here to be read. As long as our end is established the kernel lets
// nobody else have the pair of addresses, and an end that was reset never
// becomes established again. So it has to be asked after the lookup.
func stillEstablished(conn syscall.Conn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	var info *unix.TCPInfo
	var protocol int
	var infoErr, protocolErr error
	err = raw.Control(func(fd uintptr) {
		info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		protocol, protocolErr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL)
	})
	if err == nil {
		err = errors.Join(infoErr, protocolErr)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrGone, err)
	case protocol != unix.IPPROTO_TCP:
		// A connection of several paths (MPTCP) has several pairs of addresses.
		return fmt.Errorf("%w: the connection is not one of plain TCP; listen with Bind", ErrLookup)
	case State(info.State) != Established:
		return fmt.Errorf("%w, our end is in %s", ErrGone, State(info.State))
	}
	return nil
}

// reset closes a connection so that the kernel answers with a reset, and drops
// what was received and not read (SO_LINGER of 0, socket(7)).
func reset(conn net.Conn) {
	if tcp, ok := conn.(lingerer); ok {
		_ = tcp.SetLinger(0) // a peer that is gone gets nothing anyway
	}
	_ = conn.Close()
}

// lingerer is a *net.TCPConn, or a Conn around one.
type lingerer interface{ SetLinger(seconds int) error }
