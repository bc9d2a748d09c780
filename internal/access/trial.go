package access

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// trial is the time in which a connection with TLS has to show the token. Until
// then it holds one of the few places for such connections, and every deadline
// that a server sets for it ends with the trial: reads and writes then fail, upon
// which servers close a connection. So there is nothing that has to watch it.
type trial struct {
	mu     sync.Mutex
	until  time.Time // zero when the trial is over
	passed func()    // gives the place of a connection on trial back
	once   sync.Once
	read   deadline
	write  deadline
}

// deadline is what a server has asked for, in one direction.
type deadline struct{ asked time.Time }

// begin sets both deadlines of a connection that nobody has set any for.
func (t *trial) begin(conn net.Conn) error { return conn.SetDeadline(t.until) }

// ask sets a deadline, or the end of the trial if that comes first.
func (d *deadline) ask(t *trial, at time.Time, set func(time.Time) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.asked = at
	if !t.until.IsZero() && (at.IsZero() || at.After(t.until)) {
		at = t.until
	}
	return set(at)
}

// end lets what was asked for hold. A connection on which that fails is closed
// already.
func (t *trial) end(conn net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.until.IsZero() {
		return
	}
	t.until = time.Time{}
	_ = conn.SetReadDeadline(t.read.asked)
	_ = conn.SetWriteDeadline(t.write.asked)
	t.leave()
}

// leave gives the place back, once.
func (t *trial) leave() { t.once.Do(t.passed) }

// trials are the places for connections that have not shown the token yet.
type trials struct {
	max, maxEach int
	patience     time.Duration

	mu     sync.Mutex
	taken  int
	byHost map[netip.Prefix]int
}

func newTrials(maximum, maxEach int, patience time.Duration) *trials {
	return &trials{max: maximum, maxEach: maxEach, patience: patience, byHost: map[netip.Prefix]int{}}
}

// open gives a connection from that address a place. The error wraps ErrTooMany.
func (p *trials) open(from netip.Addr) (*trial, error) {
	host := hostPrefix(from)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.taken >= p.max:
		return nil, tooMany("without a token yet", p.max)
	case p.byHost[host] >= p.maxEach:
		return nil, tooMany("without a token yet, from "+host.String(), p.maxEach)
	}
	p.taken++
	p.byHost[host]++
	return &trial{until: time.Now().Add(p.patience), passed: func() { p.free(host) }}, nil
}

func (p *trials) free(host netip.Prefix) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.byHost[host]--; p.byHost[host] == 0 {
		delete(p.byHost, host)
	}
}

// hostPrefix is what counts as one host: an address of IPv4, and of IPv6 the 64
// bits that a single host is given to choose the rest freely.
func hostPrefix(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	return netip.PrefixFrom(a, bits).Masked()
}
