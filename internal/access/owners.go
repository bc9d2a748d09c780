package access

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// Owners tells who owns TCP sockets of this host, as far as they are in our
// network namespace. It may be used by many goroutines; one question is asked at
// a time, which bounds what a flood of connections can cost.
type Owners struct {
	method string

	mu    sync.Mutex
	table table
	open  func() (table, error) // opens the table again after a failure
}

// Ways to look, by the names that Method returns.
const (
	ByNetlink = "netlink"
	ByProc    = "proc"
)

// NewOwners opens the way to look that works here: netlink, or /proc/net/tcp
// where netlink is missing or forbidden (a sandbox, a kernel without tcp_diag).
// Which it is is tried on a connection of our own, because a kernel that cannot
// answer and one that knows no such socket say the same (ENOENT). The caller
// closes it.
func NewOwners() (*Owners, error) {
	o, netlinkErr := ownersBy(ByNetlink)
	if netlinkErr == nil {
		return o, nil
	}
	o, procErr := ownersBy(ByProc)
	if procErr == nil {
		return o, nil
	}
	return nil, fmt.Errorf("neither way to look up the owner of a connection works: %w",
		errors.Join(netlinkErr, procErr))
}

// ownersBy opens one way to look and tries it.
func ownersBy(method string) (*Owners, error) {
	o := &Owners{method: method, open: newNetlinkTable}
	if method == ByProc {
		o.open = newProcTable
	}
	var err error
	if o.table, err = o.open(); err != nil {
		return nil, err
	}
	if err := o.try(); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// try looks for the two ends of a connection of our own.
func (o *Owners) try() error {
	ctx := context.Background() // nothing here waits for anybody
	lis, err := listen(ctx, netip.AddrPortFrom(loopback4, 0))
	if err != nil {
		lis, err = listen(ctx, netip.AddrPortFrom(loopback6, 0))
	}
	if err != nil {
		return fmt.Errorf("%w: listen on loopback: %w", ErrLookup, err)
	}
	defer lis.Close() //nolint:errcheck // nothing was sent
	at := addrOf(lis.Addr())
	conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return fmt.Errorf("%w: connect to ourselves: %w", ErrLookup, err)
	}
	defer conn.Close() //nolint:errcheck // nothing was sent
	s, err := o.table.connected(addrOf(conn.LocalAddr()), addrOf(conn.RemoteAddr()))
	if err == nil && (s.State != Established || s.Inode == 0) {
		err = fmt.Errorf("a connection of our own is shown as %s with inode %d", s.State, s.Inode)
	}
	if err != nil {
		return fmt.Errorf("%w by %s: %w", ErrLookup, o.method, err)
	}
	return nil
}

// Method returns how is looked: ByNetlink or ByProc.
func (o *Owners) Method() string { return o.method }

// Close lets the way to the kernel go.
func (o *Owners) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.table == nil {
		return nil
	}
	err := o.table.close()
	o.table, o.open = nil, nil
	return err
}

// Connected returns the socket whose own address is local and whose peer is
// remote: for an accepted connection, pass its RemoteAddr first. The error is
// ErrNoEntry if there is none, else it wraps ErrLookup.
func (o *Owners) Connected(local, remote netip.AddrPort) (Socket, error) {
	return o.ask(func(t table) (Socket, error) { return t.connected(local, remote) })
}

// Listening returns the listener that a connection to the address would reach.
// Errors are those of Connected.
func (o *Owners) Listening(at netip.AddrPort) (Socket, error) {
	return o.ask(func(t table) (Socket, error) { return t.listening(at) })
}

// ask opens the table again after a failure, once: an answer that came too late
// would be taken for that to the next question.
func (o *Owners) ask(question func(table) (Socket, error)) (Socket, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var last error
	for range 2 {
		if err := o.reopen(); err != nil {
			return Socket{}, err
		}
		s, err := question(o.table)
		if err == nil || errors.Is(err, ErrNoEntry) {
			return s, err
		}
		last = errors.Join(err, o.table.close())
		o.table = nil
	}
	return Socket{}, last
}

func (o *Owners) reopen() error {
	if o.table != nil {
		return nil
	}
	if o.open == nil {
		return fmt.Errorf("%w: %w", ErrLookup, net.ErrClosed)
	}
	var err error
	o.table, err = o.open()
	return err
}
