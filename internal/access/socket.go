package access

import (
	"fmt"
	"net"
	"net/netip"
)

// A Socket is one end of a TCP connection, or a listener, as the kernel shows it.
type Socket struct {
	State State
	UID   uint32 // as our user namespace sees it
	Inode uint64 // of the file; 0 when no process has one
}

// State is the kernel's state of a TCP socket.
type State uint8

// The states that are told apart here (include/net/tcp_states.h).
const (
	Established State = 1
	TimeWait    State = 6
	Listen      State = 10
)

var stateNames = [...]string{
	1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT",
	7: "CLOSE", 8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING", 12: "NEW_SYN_RECV",
}

// String returns the name that ss and the kernel use.
func (s State) String() string {
	if int(s) < len(stateNames) && stateNames[s] != "" {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// A table is one way to look at the kernel's TCP sockets. What is not there is
// ErrNoEntry; every other error wraps ErrLookup.
type table interface {
	// connected finds the socket whose own address is local and whose peer is
	// remote. It never returns a listener.
	connected(local, remote netip.AddrPort) (Socket, error)
	// listening finds the listener that a connection to the address would reach.
	listening(at netip.AddrPort) (Socket, error)
	close() error
}

// addrOf returns the address of one end, IPv4 as IPv4 even if the socket is one
// of IPv6. What is no TCP address is the zero AddrPort.
func addrOf(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
