package access

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The messages of sock_diag(7); layouts from include/uapi/linux/inet_diag.h.
const (
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY, include/uapi/linux/sock_diag.h
	diagRequestBytes = 56 // struct inet_diag_req_v2
	diagAnswerBytes  = 72 // struct inet_diag_msg
)

// netlinkTimeout bounds one question. The kernel answers within the call that
// asks, so this is for a kernel that answers nothing.
const netlinkTimeout = 250 * time.Millisecond

// netlinkTable asks NETLINK_SOCK_DIAG for one socket by its addresses: two system
// calls, whatever the number of sockets there are.
type netlinkTable struct{ conn *netlink.Conn }

func newNetlinkTable() (table, error) {
	// A buffer of our own saves the call that asks how long the answer is.
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, &netlink.Config{MessageBufferSize: 4096})
	if err != nil {
		return nil, fmt.Errorf("%w: open netlink: %w", ErrLookup, err)
	}
	return &netlinkTable{conn: conn}, nil
}

func (t *netlinkTable) close() error { return t.conn.Close() }

func (t *netlinkTable) connected(local, remote netip.AddrPort) (Socket, error) {
	s, from, to, err := t.ask(local, remote)
	if err != nil {
		return Socket{}, err
	}
	// When there is no such connection, the kernel answers with the listener that
	// would take one (inet_lookup falls back to it).
	if s.State == Listen || from != local || to != remote {
		return Socket{}, ErrNoEntry
	}
	return s, nil
}

func (t *netlinkTable) listening(at netip.AddrPort) (Socket, error) {
	nobody := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	if at.Addr().Is6() {
		nobody = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	}
	s, _, _, err := t.ask(at, nobody)
	if err == nil && s.State != Listen {
		err = ErrNoEntry
	}
	return s, err
}

// ask returns the socket that the kernel finds, and its two addresses.
func (t *netlinkTable) ask(local, remote netip.AddrPort) (s Socket, from, to netip.AddrPort, err error) {
	if err := t.conn.SetDeadline(time.Now().Add(netlinkTimeout)); err != nil {
		return s, from, to, fmt.Errorf("%w: netlink: %w", ErrLookup, err)
	}
	answers, err := t.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request},
		Data:   diagRequest(local, remote),
	})
	switch {
	case errors.Is(err, syscall.ENOENT):
		return s, from, to, ErrNoEntry
	case err != nil:
		return s, from, to, fmt.Errorf("%w: netlink: %w", ErrLookup, err)
	case len(answers) != 1:
		return s, from, to, fmt.Errorf("%w: netlink gave %d answers to one question", ErrLookup, len(answers))
	}
	return parseDiag(answers[0].Data)
}

// diagRequest asks for one socket. Source and destination are those of the
// socket that is looked for.
func diagRequest(local, remote netip.AddrPort) []byte {
	b := make([]byte, diagRequestBytes)
	b[0], b[1] = unix.AF_INET, unix.IPPROTO_TCP
	if local.Addr().Is6() {
		b[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(b[4:], ^uint32(0)) // in any state
	binary.BigEndian.PutUint16(b[8:], local.Port())
	binary.BigEndian.PutUint16(b[10:], remote.Port())
	copy(b[12:28], local.Addr().AsSlice())
	copy(b[28:44], remote.Addr().AsSlice())
	// b[44:48] is the interface: any. A cookie of all ones is none (INET_DIAG_NOCOOKIE).
	binary.NativeEndian.PutUint64(b[48:], ^uint64(0))
	return b
}

// parseDiag reads a struct inet_diag_msg.
func parseDiag(b []byte) (s Socket, from, to netip.AddrPort, err error) {
	if len(b) < diagAnswerBytes {
		return s, from, to, fmt.Errorf("%w: netlink gave an answer of %d bytes, %d were expected", ErrLookup, len(b), diagAnswerBytes)
	}
	size := 4
	switch b[0] {
	case unix.AF_INET:
	case unix.AF_INET6: // also a socket of IPv6 that speaks IPv4
		size = 16
	default:
		return s, from, to, fmt.Errorf("%w: netlink gave an answer of family %d", ErrLookup, b[0])
	}
	at := func(port, addr int) netip.AddrPort {
		ip, _ := netip.AddrFromSlice(b[addr : addr+size])
		return netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(b[port:]))
	}
	s = Socket{
		State: State(b[1]),
		UID:   binary.NativeEndian.Uint32(b[64:]),
		Inode: uint64(binary.NativeEndian.Uint32(b[68:])),
	}
	return s, at(4, 8), at(6, 24), nil
}
