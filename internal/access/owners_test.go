package access_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/access"
)

const finWait2 access.State = 5

// A scene is a socket in some state, and how it has to be shown.
type scene struct {
	local, remote netip.AddrPort
	want          access.Socket // Inode: 0 or not
	err           error
}

// TestBothWaysAgree sets scenes and looks at each with netlink and with /proc.
func TestBothWaysAgree(t *testing.T) {
	netlink, proc := ownersBy(t, access.ByNetlink), ownersBy(t, access.ByProc)
	for network, addr := range loopbacks {
		lis := listening(t, network, addr)
		at := addrPort(lis.Addr())
		scenes := map[string]scene{
			"open, accepted":          open(t, lis),
			"open, not accepted":      waiting(t, lis),
			"half closed":             halfClosed(t, lis),
			"closed, with unread":     orphaned(t, lis),
			"never was":               {local: netip.AddrPortFrom(at.Addr(), 1), remote: at, err: access.ErrNoEntry},
			"the listener is no peer": {local: at, remote: netip.AddrPortFrom(at.Addr(), 1), err: access.ErrNoEntry},
		}
		if network == "tcp4" {
			scenes["IPv4 by a socket of IPv6"] = mapped(t, lis)
		}
		for name, s := range scenes {
			for _, o := range []*access.Owners{netlink, proc} {
				t.Run(name+" "+network+" "+o.Method(), func(t *testing.T) {
					got, err := o.Connected(s.local, s.remote)
					checkScene(t, s, got, err)
				})
			}
		}
	}
}

func checkScene(t *testing.T, s scene, got access.Socket, err error) {
	t.Helper()
	if got.State == 4 { // FIN_WAIT1: the other end has not acknowledged yet
		got.State = finWait2
	}
	switch {
	case !errors.Is(err, s.err) || err != nil && s.err == nil:
		t.Errorf("got %+v, %v; want the error %v", got, err, s.err)
	case err != nil:
	case got.State != s.want.State, (got.Inode == 0) != (s.want.Inode == 0), s.want.Inode != 0 && got.UID != s.want.UID:
		t.Errorf("got %+v, want %+v", got, s.want)
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// pair connects, and accepts if asked to.
func pair(t *testing.T, lis net.Listener, accept bool) (client, server *net.TCPConn) {
	t.Helper()
	c, err := net.Dial(lis.Addr().Network(), lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if !accept {
		return c.(*net.TCPConn), nil
	}
	s, err := lis.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func held(state access.State) access.Socket {
	return access.Socket{State: state, UID: ourUID(), Inode: 1}
}

func open(t *testing.T, lis net.Listener) scene {
	c, _ := pair(t, lis, true)
	return scene{local: addrPort(c.LocalAddr()), remote: addrPort(c.RemoteAddr()), want: held(access.Established)}
}

// waiting is the server's end of a connection that was not accepted.
func waiting(t *testing.T, lis net.Listener) scene {
	other := listening(t, lis.Addr().Network(), loopbacks[networkOf(lis)])
	c, _ := pair(t, other, false)
	return scene{local: addrPort(c.RemoteAddr()), remote: addrPort(c.LocalAddr()), want: access.Socket{State: access.Established}}
}

func networkOf(lis net.Listener) string {
	if addrPort(lis.Addr()).Addr().Is4() {
		return "tcp4"
	}
	return "tcp6"
}

func halfClosed(t *testing.T, lis net.Listener) scene {
	c, s := pair(t, lis, true)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, s); err != nil { // until the end was seen
		t.Fatal(err)
	}
	return scene{local: addrPort(c.LocalAddr()), remote: addrPort(c.RemoteAddr()), want: held(finWait2)}
}

func orphaned(t *testing.T, lis net.Listener) scene {
	c, s := pair(t, lis, true)
	at := scene{local: addrPort(c.LocalAddr()), remote: addrPort(c.RemoteAddr()), want: access.Socket{State: finWait2}}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, s); err != nil {
		t.Fatal(err)
	}
	return at
}

// mapped connects to an address of IPv4 with a socket of IPv6.
func mapped(t *testing.T, lis net.Listener) scene {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	at := addrPort(lis.Addr())
	to := unix.SockaddrInet6{Port: int(at.Port()), Addr: netip.AddrFrom16(at.Addr().As16()).As16()}
	if err := unix.Connect(fd, &to); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	from := name.(*unix.SockaddrInet6)
	return scene{
		local:  netip.AddrPortFrom(netip.AddrFrom16(from.Addr).Unmap(), uint16(from.Port)),
		remote: at, want: held(access.Established),
	}
}

// TestListeners finds who would take a connection, with both ways.
func TestListeners(t *testing.T) {
	foreign := started(t, stranger(t, "listen", "hold"))
	at := netip.MustParseAddrPort(foreign.first)
	all4 := addrPort(listening(t, "tcp4", "0.0.0.0:0").Addr()).Port()
	all6 := addrPort(listening(t, "tcp", "[::]:0").Addr()).Port()
	v4, v6 := netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()
	for _, method := range methods {
		owners := ownersBy(t, method)
		for _, tc := range []struct {
			at  netip.AddrPort
			uid uint32
			err error
		}{
			{at: at, uid: strangerUID(t)},
			{at: netip.AddrPortFrom(v4, all4), uid: ourUID()},
			{at: netip.AddrPortFrom(v4, all6), uid: ourUID()},
			{at: netip.AddrPortFrom(v6, all6), uid: ourUID()},
			{at: netip.AddrPortFrom(v6, all4), err: access.ErrNoEntry},
			{at: netip.AddrPortFrom(v4, 1), err: access.ErrNoEntry},
		} {
			got, err := owners.Listening(tc.at)
			if !errors.Is(err, tc.err) || err == nil && (got.UID != tc.uid || got.State != access.Listen || got.Inode == 0) {
				t.Errorf("%s: listener at %s: %+v, %v; want uid %d, %v", method, tc.at, got, err, tc.uid, tc.err)
			}
		}
	}
}

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		socket access.Socket
		want   error
	}{
		{access.Socket{State: access.Established, UID: 1000, Inode: 7}, nil},
		{access.Socket{State: access.Established, UID: 0, Inode: 7}, nil},
		{access.Socket{State: access.Established, UID: 0, Inode: 0}, access.ErrOrphan},
		{access.Socket{State: access.Established, UID: 1000, Inode: 0}, access.ErrOrphan},
		{access.Socket{State: access.TimeWait}, access.ErrNotEstablished},
		{access.Socket{State: access.Listen, UID: 1000, Inode: 7}, access.ErrNotEstablished},
	} {
		if got := access.Judge(tc.socket); !errors.Is(got, tc.want) || got != nil && tc.want == nil {
			t.Errorf("judge(%+v) = %v, want %v", tc.socket, got, tc.want)
		}
	}
	for state := access.State(2); state < 14; state++ {
		if err := access.Judge(access.Socket{State: state, UID: 1000, Inode: 7}); !errors.Is(err, access.ErrNotEstablished) {
			t.Errorf("judge of %s = %v", state, err)
		}
	}
}

func TestMapsAll(t *testing.T) {
	for text, want := range map[string]bool{
		"         0          0 4294967295\n": true,
		"0 0 1000\n1000 1000 4294966295\n":   true,
		"":                                   false,
		"         0       1000          1\n": false,
		"0 1000 1\n1 100000 65536\n":         false,
		"0 0 4294967295 4\n":                 false,
		"0 0 -1\n":                           false,
		"0 1000 1\n 1 1001 4294967295":       false,
	} {
		if got := access.MapsAll(text); got != want {
			t.Errorf("mapsAll(%q) = %v", text, got)
		}
	}
}

// TestReasons keeps the words apart.
func TestReasons(t *testing.T) {
	seen := map[string]bool{}
	for _, err := range []error{
		access.ErrNotLoopback, access.ErrNoEntry, access.ErrNotEstablished, access.ErrOrphan, access.ErrOtherUser,
		access.ErrGone, access.ErrLookup, access.ErrTooMany, access.ErrRestricted, access.ErrNoToken, io.EOF,
	} {
		word := access.Reason(fmt.Errorf("around: %w", err))
		if seen[word] || strings.Contains(word, " ") {
			t.Errorf("reason %q of %v is not a word of its own", word, err)
		}
		seen[word] = true
	}
}

// BenchmarkAccept is what letting a connection in costs, above accepting it.
func BenchmarkAccept(b *testing.B) {
	for _, method := range methods {
		b.Run(method, func(b *testing.B) {
			owners := ownersBy(b, method)
			lis := listening(b, "tcp4", "127.0.0.1:0")
			c, err := net.Dial("tcp4", lis.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			from, to := addrPort(c.LocalAddr()), addrPort(c.RemoteAddr())
			for b.Loop() {
				if _, err := owners.Connected(from, to); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("whole", func(b *testing.B) {
		lis := listening(b, "tcp4", "127.0.0.1:0")
		rec := record(newGate(b, access.GateOptions{UID: ourUID(), Owners: ownersBy(b, access.ByNetlink)}).Loopback(lis))
		defer rec.close()
		for b.Loop() {
			if !welcomed(lis.Addr().String()) {
				b.Fatal("not let in")
			}
		}
	})
	b.Run("whole without gate", func(b *testing.B) {
		rec := record(listening(b, "tcp4", "127.0.0.1:0"))
		defer rec.close()
		for b.Loop() {
			if !welcomed(rec.lis.Addr().String()) {
				b.Fatal("not let in")
			}
		}
	})
}
