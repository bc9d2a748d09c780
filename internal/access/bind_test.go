package access_test

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func bound(t *testing.T, text string) *access.Bound {
	t.Helper()
	p, err := access.ParsePlan(text, false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := access.Bind(t.Context(), p, ourUID(), ownersBy(t, access.ByNetlink))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// addrsOf checks that all listeners have one port, and returns it.
func addrsOf(t *testing.T, b *access.Bound) uint16 {
	t.Helper()
	want := 1
	if hasIPv6() {
		want = 2
	}
	if len(b.Listeners) != want {
		t.Errorf("%d listeners, want %d", len(b.Listeners), want)
	}
	for _, l := range b.Listeners {
		if at := addrPort(l.Addr()); at.Port() != b.Addr.Port() || !at.Addr().IsLoopback() {
			t.Errorf("listening at %s, want loopback and the port of %s", at, b.Addr)
		}
	}
	return b.Addr.Port()
}

func hasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return !errors.Is(err, fs.ErrNotExist)
}

func TestBindAnyPort(t *testing.T) {
	b := bound(t, "127.0.0.1:0")
	if addrsOf(t, b) == 0 || b.Moved != nil {
		t.Errorf("bound %s, moved %v", b.Addr, b.Moved)
	}
}

func TestBindHeldPort(t *testing.T) {
	foreign := started(t, stranger(t, "listen", "hold"))
	b := bound(t, foreign.first)
	port := addrsOf(t, b)
	if !slices.Contains(access.StandIns(ourUID(), 0), port) {
		t.Errorf("moved to port %d, want one of %v", port, access.StandIns(ourUID(), 0))
	}
	if b.Moved == nil || b.Moved.From.String() != foreign.first || b.Moved.To != b.Addr {
		t.Fatalf("moved %+v; want it to tell of %s and %s", b.Moved, foreign.first, b.Addr)
	}
	if want := "uid " + strconv.Itoa(int(strangerUID(t))); !strings.HasPrefix(b.Moved.Holder, want) {
		t.Errorf("held by %q, want %s", b.Moved.Holder, want)
	}
	for _, want := range []string{foreign.first, b.Addr.String()} {
		if text := b.Moved.String(); !strings.Contains(text, want) {
			t.Errorf("%q does not name %s", text, want)
		}
	}
}

// TestBindHeldByOurselves is another workspace of the same user: the same rule.
func TestBindHeldByOurselves(t *testing.T) {
	first := bound(t, "127.0.0.1:0")
	second := bound(t, first.Addr.String())
	if second.Moved == nil || second.Addr == first.Addr {
		t.Errorf("bound %s, moved %v", second.Addr, second.Moved)
	}
	third := bound(t, first.Addr.String())
	if third.Moved == nil || third.Addr == second.Addr {
		t.Errorf("bound %s, moved %v", third.Addr, third.Moved)
	}
}

// TestBindHeldInOneFamily moves both, or clients of the other family would talk
// to somebody else.
func TestBindHeldInOneFamily(t *testing.T) {
	if !hasIPv6() {
		t.Skip("this host has no IPv6: run this test on one that has")
	}
	held := addrPort(listening(t, "tcp6", "[::1]:0").Addr())
	b := bound(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), held.Port()).String())
	if addrsOf(t, b) == held.Port() || b.Moved == nil || b.Moved.From != held {
		t.Errorf("bound %s, moved %v", b.Addr, b.Moved)
	}
}

// TestBindAllStandInsHeld takes any port at last.
func TestBindAllStandInsHeld(t *testing.T) {
	held := bound(t, "127.0.0.1:0")
	var all []*access.Bound
	for range 16 + 1 {
		all = append(all, bound(t, held.Addr.String()))
	}
	last := all[len(all)-1]
	if addrsOf(t, last); last.Moved == nil || slices.Contains(access.StandIns(ourUID(), 0), last.Addr.Port()) {
		t.Errorf("the seventeenth was bound at %s, moved %v", last.Addr, last.Moved)
	}
}

// TestBindTLSDoesNotMove: clients on other hosts would never hear of it.
func TestBindTLSDoesNotMove(t *testing.T) {
	held := listening(t, "tcp", "[::]:0")
	p, err := access.ParsePlan(":"+strconv.Itoa(int(addrPort(held.Addr()).Port())), true)
	if err != nil {
		t.Fatal(err)
	}
	_, err = access.Bind(t.Context(), p, ourUID(), ownersBy(t, access.ByNetlink))
	if task.CodeOf(err) != task.CodeConflict {
		t.Errorf("got %v, want a conflict", err)
	}
}

func TestBindName(t *testing.T) {
	p := access.Plan{Name: "localhost", TLS: true}
	b, err := access.Bind(t.Context(), p, ourUID(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	if !b.Addr.Addr().IsLoopback() {
		t.Errorf("bound %s", b.Addr)
	}
	if _, err := access.Bind(t.Context(), access.Plan{Name: "name.invalid", TLS: true}, ourUID(), nil); task.CodeOf(err) != task.CodeInvalid {
		t.Errorf("a name without address: %v", err)
	}
	elsewhere := access.Plan{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, TLS: true}
	if _, err := access.Bind(t.Context(), elsewhere, ourUID(), nil); task.CodeOf(err) != task.CodeInvalid {
		t.Errorf("an address of another host: %v", err)
	}
}

// TestBindIsPlainTCP: with MPTCP a peer would have more than one address.
func TestBindIsPlainTCP(t *testing.T) {
	b := bound(t, "127.0.0.1:0")
	var d net.Dialer
	d.SetMultipathTCP(true)
	c, err := d.Dial("tcp", b.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	s, err := b.Listeners[0].Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if m, err := s.(*net.TCPConn).MultipathTCP(); err != nil || m {
		t.Errorf("a connection has several paths: %v, %v", m, err)
	}
}
