package access

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Bound is what Bind has made.
type Bound struct {
	// Listeners, all with the same port, unguarded: pass each to a Gate.
	Listeners []net.Listener
	// Addr is the first of their addresses: what a client of this host dials.
	Addr netip.AddrPort
	// Moved says that the port is not the one that was planned; nil when it is.
	Moved *Moved
}

// Moved is for owner.json and for the line that tells the user.
type Moved struct {
	From, To netip.AddrPort
	// Holder names who has the wanted port: "uid 1000 (alice)"; "" when it cannot
	// be told, as of a connection that happens to use the port.
	Holder string
}

// String says what happened, for people.
func (m Moved) String() string {
	holder := m.Holder
	if holder == "" {
		holder = "somebody else"
	}
	return fmt.Sprintf("%s is held by %s; listening at %s instead", m.From, holder, m.To)
}

// Hosts are the addresses that are bound, for Guard.Hosts. One that stands for
// all addresses is none by which anybody calls.
func (b *Bound) Hosts() []string {
	var hosts []string
	for _, l := range b.Listeners {
		if a := addrOf(l.Addr()).Addr(); !a.IsUnspecified() {
			hosts = append(hosts, a.String())
		}
	}
	return hosts
}

// Close closes all listeners.
func (b *Bound) Close() error {
	var errs []error
	for _, l := range b.Listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// Bind listens as planned. When the port is held at one of the loopback
// addresses, by whomever, another one is taken at all of them: first one of
// StandIns(uid), then any that is free. It makes no difference whether another
// user holds it or our own orchestrator of another workspace: both go on, and
// Moved says so. With TLS clients are on other hosts and would never hear of
// it, so there a port that is held is an error with task.CodeConflict.
//
// owners names the holder, and may be nil. The caller closes what is returned.
func Bind(ctx context.Context, p Plan, uid uint32, owners *Owners) (*Bound, error) {
	addrs, err := p.resolve(ctx)
	if err != nil {
		return nil, err
	}
	b, held, err := bindAll(ctx, addrs, p.Port)
	if err == nil || !errors.Is(err, syscall.EADDRINUSE) {
		return b, err
	}
	holder := holderOf(owners, held)
	if p.TLS {
		if holder == "" {
			holder = "another process"
		}
		return nil, task.Errorf(task.CodeConflict, "%s is held by %s; choose another port: %w", held, holder, err)
	}
	for _, port := range append(StandIns(uid, p.Port), 0) {
		b, _, err = bindAll(ctx, addrs, port)
		if err == nil {
			b.Moved = &Moved{From: held, To: netip.AddrPortFrom(held.Addr(), b.Addr.Port()), Holder: holder}
			return b, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		}
	}
	return nil, err
}

// holderOf names who listens at an address.
func holderOf(owners *Owners, at netip.AddrPort) string {
	if owners == nil {
		return ""
	}
	s, err := owners.Listening(at)
	if err != nil {
		return ""
	}
	return userText(s.UID)
}

// resolve returns the addresses of a plan; those of a name are looked up.
func (p Plan) resolve(ctx context.Context) ([]netip.Addr, error) {
	if p.Name == "" {
		return p.Addrs, nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", p.Name)
	if err != nil {
		return nil, task.Errorf(task.CodeInvalid, "look up %s: %w; listen at an address of this host instead", p.Name, err)
	}
	for i, a := range found {
		found[i] = a.Unmap()
	}
	return found, nil
}

// samePortAttempts is how often the kernel may choose a port at the first
// address that is held at the second.
const samePortAttempts = 20

// bindAll listens at every address with one port. Addresses that this host has
// not are left out, unless none is left: there are hosts without IPv6. On
// failure, held is the address that failed.
func bindAll(ctx context.Context, addrs []netip.Addr, port uint16) (b *Bound, held netip.AddrPort, err error) {
	for range samePortAttempts {
		b, held, err = bindOnce(ctx, addrs, port)
		if err == nil || port != 0 || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return b, held, err
}

func bindOnce(ctx context.Context, addrs []netip.Addr, port uint16) (*Bound, netip.AddrPort, error) {
	b := &Bound{}
	var missing error
	for _, addr := range addrs {
		at := netip.AddrPortFrom(addr, port)
		lis, err := listen(ctx, at)
		switch {
		case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT):
			missing = errors.Join(missing, explainBind(at, err))
			continue
		case err != nil:
			return nil, at, errors.Join(explainBind(at, err), b.Close())
		}
		b.Listeners = append(b.Listeners, lis)
		port = addrOf(lis.Addr()).Port() // what the kernel chose holds for the rest
	}
	if len(b.Listeners) == 0 {
		return nil, netip.AddrPort{}, missing
	}
	b.Addr = addrOf(b.Listeners[0].Addr())
	return b, netip.AddrPort{}, nil
}

// listen binds one address. A wildcard of IPv6 takes IPv4 in as well.
func listen(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
	network := "tcp4"
	switch {
	case at.Addr() == netip.IPv6Unspecified():
		network = "tcp"
	case at.Addr().Is6():
		network = "tcp6"
	}
	var conf net.ListenConfig
	conf.SetMultipathTCP(false) // a socket of MPTCP is not among those of TCP
	return conf.Listen(ctx, network, at.String())
}

func explainBind(at netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, syscall.EACCES):
		return task.Errorf(task.CodeInvalid, "port %d is for root; choose one from 1024 up: %w", at.Port(), err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return task.Errorf(task.CodeInvalid, "%s is not an address of this host: %w", at.Addr(), err)
	}
	return fmt.Errorf("listen at %s: %w", at, err)
}
