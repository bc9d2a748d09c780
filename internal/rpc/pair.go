package rpc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pairPatience stands for no time limit where gRPC wants one.
const pairPatience = 365 * 24 * time.Hour

// Pair makes a connection of this process with itself: conn is for Target.Conn, and
// the listener, which accepts the other end and nothing else ever, for Serve. Nobody
// else can come to it, since it has no name. Both ends are checked like those of a
// socket: the kernel says who made them.
func Pair() (conn net.Conn, lis net.Listener, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	near, nearErr := connOf(fds[0])
	far, farErr := connOf(fds[1])
	if err := errors.Join(nearErr, farErr); err != nil {
		for _, c := range []net.Conn{near, far} {
			if c != nil {
				err = errors.Join(err, c.Close())
			}
		}
		return nil, nil, err
	}
	l := &pairListener{addr: far.LocalAddr(), conn: make(chan net.Conn, 1), closed: make(chan struct{})}
	l.conn <- far
	return near, l, nil
}

// connOf makes a connection of a descriptor, which it takes over.
func connOf(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "socketpair")
	conn, err := net.FileConn(f) // has a descriptor of its own
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("make a connection of a pair of sockets: %w", err)
	}
	return conn, nil
}

// pairListener accepts one connection.
type pairListener struct {
	addr   net.Addr
	conn   chan net.Conn // until it is accepted
	once   sync.Once
	closed chan struct{}
}

// Accept returns the connection, once, and then waits for the end.
func (l *pairListener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the listener, and the connection if nobody has accepted it.
func (l *pairListener) Close() (err error) {
	l.once.Do(func() {
		close(l.closed)
		select {
		case c := <-l.conn:
			err = c.Close()
		default:
		}
	})
	return err
}

// Addr is that of a socket without a name.
func (l *pairListener) Addr() net.Addr { return l.addr }
