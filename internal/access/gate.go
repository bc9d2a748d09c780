package access

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// GateOptions are what a Gate is made of. Owners and Logger are needed.
type GateOptions struct {
	// UID is whose processes come in; root is another user, unless it is UID.
	UID uint32
	// MetricsUIDs come in as restricted peers.
	MetricsUIDs []uint32
	// Owners is asked about every connection. The Gate does not close it.
	Owners *Owners
	Logger *slog.Logger

	// MaxConns is how many connections of UID may be open. Defaults to 512.
	MaxConns int
	// MaxRestricted is how many of MetricsUIDs may be, together. Defaults to 16.
	MaxRestricted int
	// MaxTLS is how many connections with TLS may be, whoever made them.
	// Defaults to 256.
	MaxTLS int
	// TokenTimeout is how long a connection with TLS may be open before the token
	// was shown on it; then it is cut off. Defaults to 5 s.
	TokenTimeout time.Duration
	// MaxUnproven is how many connections with TLS may be open on which the token
	// was not shown yet, out of MaxTLS. Defaults to half of these.
	MaxUnproven int
	// MaxUnprovenPerHost is how many of them may be of one address (of IPv6: of one
	// /64). Defaults to 16.
	MaxUnprovenPerHost int
	// RefusingShare bounds what refusing may cost, as a share of one CPU: when more
	// is to be refused, all wait in the kernel's line. Defaults to 0.25.
	RefusingShare float64
}

// A Gate guards listeners. The limits are for all listeners of a Gate together.
type Gate struct {
	users    users
	owners   *Owners
	full     counter // connections of our uid
	limited  counter // of restricted peers
	secured  counter // with TLS
	trials   *trials // of these, where the token was not shown yet
	refusals *refusals
}

// NewGate fails when an option is missing, and with ErrAmbiguousUser where other
// users cannot be told from us.
func NewGate(o GateOptions) (*Gate, error) {
	if o.Owners == nil || o.Logger == nil {
		return nil, errors.New("access: an option that is needed is missing")
	}
	who, err := newUsers(o.UID, o.MetricsUIDs)
	if err != nil {
		return nil, err
	}
	maxTLS := or(o.MaxTLS, 256)
	return &Gate{
		users:    who,
		owners:   o.Owners,
		full:     counter{max: int64(or(o.MaxConns, 512))},
		limited:  counter{max: int64(or(o.MaxRestricted, 16))},
		secured:  counter{max: int64(maxTLS)},
		trials:   newTrials(or(o.MaxUnproven, max(1, maxTLS/2)), or(o.MaxUnprovenPerHost, 16), or(o.TokenTimeout, 5*time.Second)),
		refusals: newRefusals(o.Logger, or(o.RefusingShare, 0.25)),
	}, nil
}

func or[N int | float64 | time.Duration](n, otherwise N) N {
	if n == 0 {
		return otherwise
	}
	return n
}

// Refused returns how many connections were refused since the start, by Reason.
func (g *Gate) Refused() map[string]uint64 { return g.refusals.counts() }

// Loopback guards a listener without TLS: it returns connections of processes of
// our uid, and restricted ones. Others are reset unread, and are not seen by the
// caller of Accept.
//
// A connection is looked at inside Accept. The look takes some microseconds
// (with /proc, some per socket of the host), asks the kernel and never the peer,
// so there is nothing by which a peer could hold up those behind it, and no
// goroutine to wait for.
func (g *Gate) Loopback(lis net.Listener) net.Listener {
	return &gateListener{Listener: lis, gate: g, look: g.lookAtPeer, closing: make(chan struct{})}
}

// TLS guards a listener with TLS, whose requests a TokenGuard has to look at:
// it bounds the number of connections, and the time until the token is shown, and
// begins TLS on each. The handshake is made by whoever reads first.
func (g *Gate) TLS(lis net.Listener, conf *tls.Config) net.Listener {
	bounded := &gateListener{Listener: lis, gate: g, look: g.lookAtPlaces, closing: make(chan struct{})}
	return tls.NewListener(bounded, conf)
}

// gateListener returns those connections that pass the look.
type gateListener struct {
	net.Listener
	gate    *Gate
	look    func(net.Conn) (*Conn, error)
	once    sync.Once
	closing chan struct{} // ends a pause of Accept
}

// Accept returns the next connection that was let in. Errors are those of the
// listener below.
func (l *gateListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		begun := time.Now()
		admitted, err := l.look(conn)
		if err == nil {
			return admitted, nil
		}
		reset(conn)
		l.gate.refusals.add(conn, err)
		l.gate.refusals.pace(time.Since(begun), l.closing)
	}
}

// Close closes the listener below and ends Accept. Connections stay open.
func (l *gateListener) Close() error {
	l.once.Do(func() { close(l.closing) })
	return l.Listener.Close()
}

func (g *Gate) lookAtPeer(conn net.Conn) (*Conn, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("%w: of a %T", ErrLookup, conn)
	}
	peer, err := g.identify(sc, addrOf(conn.LocalAddr()), addrOf(conn.RemoteAddr()))
	if err != nil {
		return nil, err
	}
	places := &g.full
	if peer.Restricted {
		places = &g.limited
	}
	if !places.take() {
		return nil, tooMany("of "+peer.String(), int(places.max))
	}
	return &Conn{Conn: conn, who: peer, proven: true, release: places.free}, nil
}

// lookAtPlaces lets in whom there is room for, on trial. Who it is is said later,
// by the token.
func (g *Gate) lookAtPlaces(conn net.Conn) (*Conn, error) {
	if !g.secured.take() {
		return nil, tooMany("with TLS", int(g.secured.max))
	}
	t, err := g.trials.open(addrOf(conn.RemoteAddr()).Addr())
	if err != nil {
		g.secured.free()
		return nil, err
	}
	release := func() {
		t.leave()
		g.secured.free()
	}
	if err := t.begin(conn); err != nil {
		release()
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	return &Conn{Conn: conn, release: release, trial: t}, nil
}

func tooMany(of string, open int) error {
	return fmt.Errorf("%w %s: %d are open", ErrTooMany, of, open)
}

// A counter counts places.
type counter struct {
	max   int64
	taken atomic.Int64
}

func (c *counter) take() bool {
	if c.taken.Add(1) > c.max {
		c.taken.Add(-1)
		return false
	}
	return true
}

func (c *counter) free() { c.taken.Add(-1) }
