package runtimedir

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"
)

// lookEvery is how often a Listener looks whether its socket is still there.
const lookEvery = 2 * time.Second

// Listener is a listener on a Unix socket that binds it again when somebody
// has removed it. What lies in /tmp or /run is cleaned up by programs that know
// nothing of us, and a daemon that runs but cannot be reached is of no use.
type Listener struct {
	path string
	bind func() (net.Listener, error)
	stop chan struct{}
	done chan struct{}

	mu     sync.Mutex
	cur    net.Listener
	id     os.FileInfo // of the socket that cur is bound to
	closed bool
}

// Listen binds the socket with bind and keeps it bound until Close. bind has to
// make the directory, too, if that can go. An error of a later bind is tried
// again at the next look.
func Listen(path string, bind func() (net.Listener, error)) (*Listener, error) {
	l := &Listener{path: path, bind: bind, stop: make(chan struct{}), done: make(chan struct{})}
	var err error
	if l.cur, err = bind(); err != nil {
		return nil, err
	}
	if l.id, err = os.Lstat(path); err != nil {
		return nil, errors.Join(err, l.cur.Close())
	}
	go l.keep()
	return l, nil
}

// keep looks after the socket until Close.
func (l *Listener) keep() {
	defer close(l.done)
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-t.C:
			l.look()
		}
	}
}

// look binds again if the socket is gone. One that was replaced by somebody else
// is left alone: there are two of us, and the other one came later.
func (l *Listener) look() {
	if _, err := os.Lstat(l.path); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	next, err := l.bind()
	if err != nil {
		return
	}
	id, err := os.Lstat(l.path)
	if err != nil {
		_ = release(next) // gone again; the next look tries again
		return
	}
	old := l.cur
	l.cur, l.id = next, id
	// Those who wait in Accept on the old one are woken, and go on with the next.
	_ = release(old)
}

// release closes a listener without removing the socket that now has its name.
func release(l net.Listener) error {
	if u, ok := l.(interface{ SetUnlinkOnClose(bool) }); ok {
		u.SetUnlinkOnClose(false)
	}
	return l.Close()
}

// Accept returns the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		l.mu.Lock()
		cur := l.cur
		l.mu.Unlock()
		c, err := cur.Accept()
		if err == nil {
			return c, nil
		}
		l.mu.Lock()
		again := l.cur != cur && !l.closed
		l.mu.Unlock()
		if !again {
			return nil, err
		}
	}
}

// Addr returns the address of the socket.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close removes the socket, unless it is not ours any more, and ends Accept.
func (l *Listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return net.ErrClosed
	}
	l.closed = true
	close(l.stop)
	// By our own path: the listener may know its socket by another one that means
	// nothing any more, as where that is too long for the kernel.
	err := release(l.cur)
	if now, statErr := os.Lstat(l.path); statErr == nil && os.SameFile(now, l.id) {
		err = errors.Join(err, os.Remove(l.path))
	}
	l.mu.Unlock()
	<-l.done
	return err
}
