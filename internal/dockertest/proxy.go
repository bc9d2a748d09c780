package dockertest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A Proxy is a socket in front of an engine's, through which all goes as it is
// until it is told otherwise.
type Proxy struct {
	target, path string
	ctx          context.Context
	wg           sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener // nil = cut
	conns    map[net.Conn]bool
	delay    time.Duration
	flowing  chan struct{} // closed while bytes may pass
}

// NewProxy opens a socket in front of that of an engine. It ends with the test.
func NewProxy(t testing.TB, e *Engine) *Proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "dspy-proxy-") // short, as the name of a socket has to be
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // for tests that act as another user
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &Proxy{target: e.Socket(), path: filepath.Join(dir, "docker.sock"), ctx: ctx, conns: map[net.Conn]bool{}, flowing: make(chan struct{})}
	close(p.flowing)
	t.Cleanup(func() {
		stop()
		p.Cut()
		p.wg.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := p.Repair(); err != nil {
		t.Fatal(err)
	}
	return p
}

// Address returns what DOCKER_HOST has to be to go through it.
func (p *Proxy) Address() string { return "unix://" + p.path }

// Cut ends every connection and removes the socket, as when the engine is gone.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		p.listener.Close() //nolint:errcheck // it is gone either way
		p.listener = nil
	}
	for c := range p.conns {
		c.Close() //nolint:errcheck // it is gone either way
	}
}

// Hang lets nothing pass from now on, and closes nothing: an engine that is stuck.
func (p *Proxy) Hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.flowing:
		p.flowing = make(chan struct{})
	default:
	}
}

// Slow holds up every piece of what is said, in both directions, for so long.
func (p *Proxy) Slow(by time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = by
}

// Repair undoes Cut, Hang and Slow.
func (p *Proxy) Repair() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = 0
	select {
	case <-p.flowing:
	default:
		close(p.flowing)
	}
	if p.listener != nil {
		return nil
	}
	var conf net.ListenConfig
	listener, err := conf.Listen(p.ctx, "unix", p.path)
	if err != nil {
		return err
	}
	if err := os.Chmod(p.path, 0o666); err != nil { // for tests that act as another user
		return errors.Join(err, listener.Close())
	}
	p.listener = listener
	p.wg.Go(func() { p.accept(listener) })
	return nil
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(listener, conn) })
	}
}

// serve joins a connection with one to the engine until both sides have ended.
func (p *Proxy) serve(listener net.Listener, near net.Conn) {
	defer near.Close()
	var dialer net.Dialer
	far, err := dialer.DialContext(p.ctx, "unix", p.target)
	if err != nil {
		return
	}
	defer far.Close()
	if !p.join(listener, near, far) {
		return
	}
	defer p.leave(near, far)
	ctx, stop := context.WithCancel(p.ctx)
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { p.pass(ctx, stop, far, near) })
	both.Go(func() { p.pass(ctx, stop, near, far) })
	both.Wait()
}

// join notes a connection for Cut; false: it came too late.
func (p *Proxy) join(listener net.Listener, conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != listener {
		return false
	}
	for _, c := range conns {
		p.conns[c] = true
	}
	return true
}

func (p *Proxy) leave(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
	}
}

// pass copies one direction. An end is passed on as an end of this direction
// alone: who has sent its input still reads the output. A failure ends both.
func (p *Proxy) pass(ctx context.Context, stop func(), to, from net.Conn) {
	fail := func() {
		stop()
		to.Close()   //nolint:errcheck // it is gone either way
		from.Close() //nolint:errcheck // it is gone either way
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !p.wait(ctx) {
			fail()
			return
		}
		if _, werr := to.Write(buf[:n]); werr != nil {
			fail()
			return
		}
		if errors.Is(err, io.EOF) {
			if half, ok := to.(*net.UnixConn); ok && half.CloseWrite() == nil {
				return
			}
		}
		if err != nil {
			fail()
			return
		}
	}
}

// wait holds up one piece; false: the connection ended meanwhile.
func (p *Proxy) wait(ctx context.Context) bool {
	p.mu.Lock()
	delay, flowing := p.delay, p.flowing
	p.mu.Unlock()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	}
	select {
	case <-ctx.Done():
		return false
	case <-flowing:
		return true
	}
}
