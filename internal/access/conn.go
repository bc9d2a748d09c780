package access

import (
	"errors"
	"net"
	"sync"
	"time"
)

// Conn is a connection that a Gate has let in. Its place among the connections
// that may be open is given back by Close.
type Conn struct {
	net.Conn
	who     Peer
	proven  bool // who is known; else the token has to say
	release func()
	once    sync.Once
	trial   *trial // nil where the kernel has named the peer
}

// Close closes the connection.
func (c *Conn) Close() error {
	defer c.once.Do(c.release)
	return c.Conn.Close()
}

// SetLinger is that of the TCP connection (net.TCPConn).
func (c *Conn) SetLinger(seconds int) error {
	if tcp, ok := c.Conn.(lingerer); ok {
		return tcp.SetLinger(seconds)
	}
	return errors.ErrUnsupported
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline keeps within the time for the token.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.trial == nil {
		return c.Conn.SetReadDeadline(t)
	}
	return c.trial.read.ask(c.trial, t, c.Conn.SetReadDeadline)
}

// SetWriteDeadline keeps within the time for the token.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if c.trial == nil {
		return c.Conn.SetWriteDeadline(t)
	}
	return c.trial.write.ask(c.trial, t, c.Conn.SetWriteDeadline)
}

// prove says that the token was shown on this connection, which from now on may
// stay as long as it likes.
func (c *Conn) prove() {
	if c != nil && c.trial != nil {
		c.trial.end(c.Conn)
	}
}

// PeerOf returns who is at the other end of a connection from a Gate. It is
// false for any other connection, and for one with TLS, where a token says it.
func PeerOf(conn net.Conn) (Peer, bool) {
	if c := gated(conn); c != nil {
		return c.who, c.proven
	}
	return Peer{}, false
}

// gated returns the connection from a Gate under a connection; nil = there is none.
func gated(conn net.Conn) *Conn {
	for {
		switch c := conn.(type) {
		case *Conn:
			return c
		case interface{ NetConn() net.Conn }: // tls.Conn
			conn = c.NetConn()
		default:
			return nil
		}
	}
}
