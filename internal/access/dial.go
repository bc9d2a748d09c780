package access

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ErrForeignServer is the cause of the error of a dial that found a listener of
// another user. Nothing was sent to it.
var ErrForeignServer = errors.New("the server is not ours")

// Dialer connects to servers of one user on this host, without TLS. It may be
// used by many goroutines.
type Dialer struct {
	UID    uint32
	Owners *Owners
}

// DialContext connects, and makes sure that the process at the other end is one
// of our user before it returns. It fits http.Transport; set its Proxy to nil.
// Errors are a *task.Error with a cause, but for those of the context.
func (d *Dialer) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	targets, err := dialTargets(addr)
	if err != nil {
		return nil, err
	}
	var nd net.Dialer
	nd.SetMultipathTCP(false) // a socket of MPTCP is not among those of TCP
	var failed error
	for _, at := range targets {
		conn, err := nd.DialContext(ctx, "tcp", at.String())
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if err := d.check(ctx, conn, at); err != nil {
			reset(conn)
			return nil, err
		}
		return conn, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, failed)
	}
	return nil, task.Errorf(task.CodeUnavailable, "cannot connect to %s: %w", addr, failed)
}

// Dial is DialContext for grpc.WithContextDialer.
func (d *Dialer) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return d.DialContext(ctx, "tcp", addr)
}

// dialTargets returns the addresses to try. A name is not looked up but for
// localhost: an answer from elsewhere could lead anywhere.
func dialTargets(addr string) ([]netip.AddrPort, error) {
	host, digits, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, task.Errorf(task.CodeInvalid, "%q is no address; write HOST:PORT: %w", addr, err)
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return nil, task.Errorf(task.CodeInvalid, "%q has no port: %w", addr, err)
	}
	// What a server listens at when it is given no host or all hosts.
	ip, err := netip.ParseAddr(host)
	ip = ip.Unmap()
	if host == "" || err == nil && ip.IsUnspecified() || strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return []netip.AddrPort{
			netip.AddrPortFrom(loopback4, uint16(port)), netip.AddrPortFrom(loopback6, uint16(port)),
		}, nil
	}
	if err != nil || !ip.IsLoopback() {
		return nil, task.Errorf(task.CodeInvalid, "%s is not an address of this host alone: without TLS and a token nothing is sent there: %w", addr, ErrNotLoopback)
	}
	return []netip.AddrPort{netip.AddrPortFrom(ip, uint16(port))}, nil
}

// check asks who is at the server's end of a new connection.
func (d *Dialer) check(ctx context.Context, conn net.Conn, at netip.AddrPort) error {
	s, err := d.server(ctx, addrOf(conn.RemoteAddr()), addrOf(conn.LocalAddr()))
	switch {
	case errors.Is(err, ErrNoEntry), errors.Is(err, ErrNotEstablished):
		return task.Errorf(task.CodeUnavailable, "%s closed the connection before it was known who listens there: %w", at, err)
	case err != nil:
		return task.Errorf(task.CodeUnavailable, "cannot tell who listens at %s, so nothing is sent there; use the Unix socket: %w", at, err)
	case s.UID != d.UID:
		return task.Errorf(task.CodeConflict,
			"%w: %s is held by %s, and we are %s; nothing was sent; unset the address to use the socket of the workspace, or take the one that 'dspy-agent status' shows",
			ErrForeignServer, at, userText(s.UID), userText(d.UID))
	}
	return nil
}

// lookAgain is how soon a server's end is looked at again that changed while it
// was being looked at.
const lookAgain = 5 * time.Millisecond

// server returns the socket that serves a connection: the server's end of it,
// or, as long as the server has not accepted it, the listener in whose line it
// stands.
func (d *Dialer) server(ctx context.Context, remote, local netip.AddrPort) (Socket, error) {
	if remote == local {
		return Socket{}, ErrNoEntry // connected to itself, as TCP can
	}
	for range 10 {
		s, err := d.established(remote, local)
		if err != nil || s.Inode != 0 {
			return s, err
		}
		lis, err := d.Owners.Listening(remote)
		if err != nil {
			return Socket{}, err
		}
		// A connection that stands in line is gone with its listener, and the port
		// cannot have two: as long as it stands there, that one is its listener.
		s, err = d.established(remote, local)
		if err != nil || s.Inode != 0 {
			return s, err
		}
		if lis.Inode != 0 {
			return lis, nil
		}
		if err := sleep(ctx, lookAgain); err != nil {
			return Socket{}, err
		}
	}
	return Socket{}, ErrOrphan
}

// established returns the server's end, which may not have been accepted yet.
func (d *Dialer) established(remote, local netip.AddrPort) (Socket, error) {
	s, err := d.Owners.Connected(remote, local)
	if err == nil && s.State != Established {
		err = fmt.Errorf("%w, it is in %s", ErrNotEstablished, s.State)
	}
	return s, err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
