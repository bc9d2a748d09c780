package rpc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ErrNoDaemon is the cause of the error of a call that found nobody at the socket.
var ErrNoDaemon = errors.New("no daemon is running")

// Target says where a server is.
type Target struct {
	Socket string // path of its Unix socket
	Addr   string // host and port instead of the socket
	// Conn, instead of both, is a connection that is there already, such as Pair makes.
	// The Client closes it, and makes no other.
	Conn net.Conn
	// Cert is the server's certificate, and Token what it asks for. Both are needed
	// for addresses beyond loopback.
	Cert  *access.Certificate
	Token access.Token
	// Word, instead of Token, is the secret of a worker.
	Word    string
	Wording Wording
}

// Wording is what errors of a Client say that is different for each server.
type Wording struct {
	Absent   string // that nobody is there, and how to start one
	AddrFrom string // the name of the setting that has Target.Addr
	Killed   string // what comes of killing one that hangs
	TooLarge string // what to do about a request that is too large
	Ended    string // that what Target.Conn led to has ended
}

// Client is a connection to a server of ours, on which the caller makes the clients of
// its services. Every error of their calls, and of their streams, is a *task.Error
// with the code that the server gave, or wraps the context's error.
//
// A Client may be used by many goroutines. When the server is restarted it
// connects again by itself.
type Client struct {
	conn   *grpc.ClientConn
	dialer *socketDialer
}

// Dial connects to a server, having made sure that it is ours and that it
// answers. When none is running the error has CodeUnavailable and ErrNoDaemon as a
// cause; when one runs and says nothing, CodeUnavailable and ErrSilent.
func Dial(ctx context.Context, t Target) (*Client, error) {
	d := newDialer(t)
	if t.Addr != "" && t.Conn == nil {
		route, err := routeTo(t)
		if err != nil {
			return nil, err
		}
		d.tcp = route
	}
	// gRPC connects when the first call is made, and its errors then are text.
	// So the first connection is made here, where its error is a value.
	conn, err := d.connect(ctx)
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.ready = conn
	cc, err := grpc.NewClient("passthrough:///localhost", d.options()...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a client: %w", err), d.close())
	}
	c := &Client{conn: cc, dialer: d}
	if err := d.greet(ctx, cc); err != nil {
		_ = c.Close() // nothing was begun; why there is no answer is what counts
		return nil, err
	}
	return c, nil
}

// Conn is the connection to make clients on.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// Server is the process that the newest connection is to, as the kernel tells it; 0 where
// that is not known.
func (c *Client) Server() int { return int(c.dialer.server()) }

// Close ends the connection and every call that is under way.
func (c *Client) Close() error {
	return errors.Join(c.conn.Close(), c.dialer.close())
}

// socketDialer makes the connections of a Client.
type socketDialer struct {
	target Target
	door   door
	tcp    *tcpRoute // nil: to the socket

	patience  time.Duration  // see answerPatience
	closed    chan struct{}  // by close, once
	once      sync.Once      //
	attending sync.WaitGroup // the goroutines of attend

	mu    sync.Mutex
	given net.Conn // Target.Conn, until it is taken
	ready net.Conn // made by Dial, for gRPC to take; nil after
	last  error    // why the last attempt failed; nil when it did not
	pid   int32    // of whom the newest connection is to; 0 when it is not known
}

func newDialer(t Target) *socketDialer {
	d := &socketDialer{
		target: t, door: sameUser(uint32(os.Geteuid())), patience: answerPatience, closed: make(chan struct{}), given: t.Conn,
	}
	if t.Conn != nil {
		// Who serves it is stopped and goes on together with us, and the clock goes on
		// meanwhile: that would look like silence.
		d.patience = pairPatience
	}
	return d
}

func (d *socketDialer) lastError() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// failed notes why the last attempt to connect failed.
func (d *socketDialer) failed(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = err
}

// server returns the process that the newest connection is to.
func (d *socketDialer) server() int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pid
}

func (d *socketDialer) options() []grpc.DialOption {
	route := []grpc.DialOption{grpc.WithTransportCredentials(peerCreds{doors: doors{"unix": d.door}}), grpc.WithAuthority("localhost")}
	if d.tcp != nil {
		route = d.tcp.options(d.failed)
	}
	return append(route,
		grpc.WithContextDialer(d.dial),
		grpc.WithNoProxy(), // HTTPS_PROXY is about the web
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(MaxMessageBytes), grpc.MaxCallRecvMsgSize(MaxMessageBytes)),
		grpc.WithKeepaliveParams(d.keepalive()),
		// One that was restarted is to be found again at once, and the socket is near.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * d.patience, // greet gives up before
		}),
		grpc.WithUnaryInterceptor(d.unary),
		grpc.WithStreamInterceptor(d.stream),
	)
}

// keepalive finds out whether a silent server is still there.
func (d *socketDialer) keepalive() keepalive.ClientParameters {
	if d.target.Conn != nil {
		return keepalive.ClientParameters{Time: pairPatience}
	}
	return keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}
}

// dial is what gRPC calls, the first time and after each loss.
func (d *socketDialer) dial(ctx context.Context, _ string) (net.Conn, error) {
	d.mu.Lock()
	conn := d.ready
	d.ready = nil
	d.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	conn, err := d.connect(ctx)
	d.mu.Lock()
	d.last = err
	d.mu.Unlock()
	return conn, err
}

// connect makes one connection to a listener of our own.
func (d *socketDialer) connect(ctx context.Context) (net.Conn, error) {
	switch {
	case d.target.Conn != nil:
		return d.takeGiven()
	case d.tcp != nil:
		return d.tcp.connect(ctx, d.target)
	}
	if err := checkSocketPath(d.target.Socket); err != nil {
		return nil, err
	}
	var nd net.Dialer
	conn, err := nd.DialContext(ctx, "unix", d.target.Socket)
	if err != nil {
		return nil, d.explain(err)
	}
	return d.admit(conn, d.target.Socket)
}

// takeGiven returns the connection that there is, the first time.
func (d *socketDialer) takeGiven() (net.Conn, error) {
	d.mu.Lock()
	conn := d.given
	d.given = nil
	d.mu.Unlock()
	if conn == nil {
		return nil, task.Errorf(task.CodeUnavailable, "%s", d.target.Wording.Ended)
	}
	return d.admit(conn, "the other end")
}

// admit makes sure that a connection leads to a process of our own user.
func (d *socketDialer) admit(conn net.Conn, where string) (net.Conn, error) {
	who, err := d.door(conn)
	if err != nil {
		refusal := task.Errorf(task.CodeConflict, "whoever listens on %s cannot be trusted: %w", where, err)
		return nil, errors.Join(refusal, conn.Close())
	}
	d.mu.Lock()
	d.pid = who.PID
	d.mu.Unlock()
	return conn, nil
}

// explain turns the failure of a connect into what to do.
func (d *socketDialer) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &task.Error{
			Code:    task.CodeUnavailable,
			Message: d.target.Wording.Absent,
			Err:     errors.Join(ErrNoDaemon, err),
		}
	case errors.Is(err, fs.ErrPermission):
		return task.Errorf(task.CodeConflict, "socket %s is not ours to use: %w", d.target.Socket, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("connect to the daemon: %w", err)
	}
	return task.Errorf(task.CodeUnavailable, "cannot connect to the daemon: %w", err)
}

func (d *socketDialer) close() error {
	d.once.Do(func() { close(d.closed) })
	d.attending.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	if d.ready != nil {
		err = d.ready.Close()
		d.ready = nil
	}
	if d.tcp != nil {
		err = errors.Join(err, d.tcp.close())
	}
	return err
}
