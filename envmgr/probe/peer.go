package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// peer is a connection that is closed when its context ends, which is how whoever
// reads from it or writes to it returns at once.
type peer struct {
	net.Conn
	ctx    context.Context
	addr   string
	unhook func()
	// heard is the beginning of what the other end has said, for messages.
	heard []byte
}

func dial(ctx context.Context, addr string, by func(ctx context.Context, network, addr string) (net.Conn, error)) (*peer, error) {
	if by == nil {
		by = dialAny
	}
	conn, err := by(ctx, "tcp", addr)
	if err != nil {
		return nil, noConnection(ctx, addr, err)
	}
	p := &peer{Conn: conn, ctx: ctx, addr: addr}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = conn.Close()
	})
	p.unhook = func() {
		if !stop() {
			<-closed
		}
	}
	return p, nil
}

// dialAny dials an address. localhost is two of them, and a server may listen at one
// only. No name server is asked for it, or for anything.
func dialAny(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	if _, err := netip.ParseAddrPort(addr); err == nil {
		return d.DialContext(ctx, network, addr)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host != localhost || !isNumber(port) {
		return nil, &net.AddrError{Err: "not an address and a port", Addr: addr}
	}
	conn, err := d.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	if errors.Is(err, syscall.ECONNREFUSED) {
		if conn6, err6 := d.DialContext(ctx, network, net.JoinHostPort("::1", port)); err6 == nil {
			return conn6, nil
		}
	}
	return conn, err
}

// hangUp closes the connection, and waits for what may be closing it meanwhile.
func (p *peer) hangUp() {
	p.unhook()
	_ = p.Close()
}

// send writes a request. That the other end has hung up says nothing yet: it may have
// answered before, without waiting to be asked, as servers do that have too many
// clients.
func (p *peer) send(request []byte) error {
	if _, err := p.Write(request); err != nil && !hungUp(err) {
		return p.lost(err)
	}
	return nil
}

// Read remembers the beginning of what it reads.
func (p *peer) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if room := maxBytes + 1 - len(p.heard); room > 0 {
		p.heard = append(p.heard, b[:min(n, room)]...)
	}
	return n, err
}

// lost says what an error of reading or writing means.
func (p *peer) lost(err error) error {
	sofar := ""
	if len(p.heard) > 0 {
		sofar = ", only " + quote(p.heard)
	}
	switch {
	case p.ctx.Err() != nil:
		return ended(p.ctx, "no answer from "+p.addr+sofar)
	case hungUp(err) && sofar == "":
		return fail(ErrClosed, err, "%s accepted the connection and closed it without an answer: behind a published port the engine's proxy does so until the service listens", p.addr)
	case hungUp(err):
		return fail(ErrClosed, err, "%s closed the connection in the middle of an answer%s", p.addr, sofar)
	default:
		return fail(ErrUnreachable, err, "the connection to %s broke: %v", p.addr, err)
	}
}

// foreign is for what is no answer of the protocol.
func (p *peer) foreign(protocol string) error {
	return fail(ErrForeign, nil, "what listens at %s does not speak %s: it says %s", p.addr, protocol, quote(p.heard))
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// noConnection says what an error of connecting means.
func noConnection(ctx context.Context, addr string, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		<-ctx.Done() // it is the context's deadline that passed, and the dialer may have seen it first
	}
	var bad *net.AddrError
	switch {
	case ctx.Err() != nil:
		return ended(ctx, "no connection to "+addr)
	case errors.As(err, &bad):
		return fail(ErrSpec, err, "%q is not an address to connect to: it must be IP:port", addr)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail(ErrRefused, err, "connection refused by %s: nothing listens there", addr)
	case errors.Is(err, syscall.ECONNRESET):
		return fail(ErrClosed, err, "%s reset the connection while it was made", addr)
	case outOf(err):
		return fail(ErrNotAsked, err, "the probe could not connect, for want of something on this machine: %v", err)
	default:
		return fail(ErrUnreachable, err, "no connection to %s: %v", addr, err)
	}
}

// outOf: this process or its machine has run out of what a connection needs, or may
// not have it. The service is not to blame.
func outOf(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL, syscall.EPERM, syscall.EACCES} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// timeoutError is how a context ends at the timeout of the probe, as against that of
// its caller.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string { return fmt.Sprintf("timeout of the probe, %v", e.after) }

// ended says how a context ended that what is waited for has outlasted.
func ended(ctx context.Context, waited string) error {
	cause := context.Cause(ctx)
	if timeout, ok := errors.AsType[*timeoutError](cause); ok {
		return fail(ErrSilent, cause, "%s within %v", waited, timeout.after)
	}
	return fail(cause, ctx.Err(), "given up: %v", cause)
}
