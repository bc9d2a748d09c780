package access_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/access"
)

// knocks is how often each stranger tries each way in.
func knocks() int {
	if os.Getenv(fullVar) != "" {
		return 10_000
	}
	return 100
}

// TestStrangersNeverGetIn has another user connect again and again, in every way
// there is, while ours get in.
func TestStrangersNeverGetIn(t *testing.T) {
	bothWays(t, func(t *testing.T, owners *access.Owners, lis net.Listener) {
		gate := newGate(t, access.GateOptions{UID: serverUID(t), Owners: owners, RefusingShare: 1000})
		rec := record(gate.Loopback(lis))
		defer rec.close()
		for way := range waysToKnock {
			cmd := stranger(t, "knock", lis.Addr().String(), way, strconv.Itoa(knocks()))
			want := fmt.Sprintf("connected %d times, heard 0 bytes", knocks())
			if got := output(t, cmd); got[0] != want {
				t.Errorf("%s: a stranger %s; want %s", way, got, want)
			}
			if asRoot(t) && !welcomed(lis.Addr().String()) {
				t.Errorf("%s: and then one of ours was not let in", way)
			}
		}
		want := uint64(len(waysToKnock) * knocks())
		eventually(t, "all have been looked at", func() bool { return sum(gate.Refused()) >= want })
		rec.close()
		strangers := strangerUID(t)
		for _, c := range rec.conns() {
			if c.peer.UID == strangers || c.text != "" {
				t.Errorf("a connection of %s was let in, and %q was read", c.peer, c.text)
			}
		}
		if got := sum(gate.Refused()); got != want {
			t.Errorf("%d connections were refused, want %d: %v", got, want, gate.Refused())
		}
		t.Log(owners.Method(), gate.Refused())
	})
}

func sum(counts map[string]uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// TestLeavingOnesPortToAnother is the attack on a lookup by address: send, reset,
// and wait until somebody of the server's own user has the port.
func TestLeavingOnesPortToAnother(t *testing.T) {
	bothWays(t, func(t *testing.T, owners *access.Owners, lis net.Listener) {
		gate := newGate(t, access.GateOptions{UID: ourUID(), Owners: owners})
		// Nobody accepts yet, as when the server is busy.
		ours, attempts := inherit(t, lis)
		defer func() { _ = ours.Close() }()
		if _, err := io.WriteString(ours, "mine\n"); err != nil {
			t.Fatal(err)
		}
		conn, err := gate.Loopback(lis).Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		got := make([]byte, len(stolen))
		n, err := conn.Read(got)
		if err != nil || string(got[:n]) != "mine\n" {
			t.Errorf("read %q, %v; want what our own process sent", got[:n], err)
		}
		counts := gate.Refused()
		if counts["gone"] != 1 || sum(counts) != attempts {
			t.Errorf("refused %v, want %d, one of them because it is gone", counts, attempts)
		}
	})
}

// inherit connects from the port that a stranger has just left, who sent and reset.
// It says how many strangers that took: a port can be in use by somebody else, too.
func inherit(t *testing.T, lis net.Listener) (conn net.Conn, attempts uint64) {
	t.Helper()
	for attempts = 1; attempts < 20; attempts++ {
		port, err := net.ResolveTCPAddr("tcp", output(t, stranger(t, "leave", lis.Addr().String()))[0])
		if err != nil {
			t.Fatal(err)
		}
		d := net.Dialer{LocalAddr: port, Control: func(_, _ string, raw syscall.RawConn) error {
			var err error
			return errors.Join(raw.Control(func(fd uintptr) {
				err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
			}), err)
		}}
		conn, err = d.DialContext(t.Context(), lis.Addr().Network(), lis.Addr().String())
		if err == nil {
			return conn, attempts
		}
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Fatal(err)
		}
	}
	t.Fatal("every port that was left was in use by somebody else")
	return nil, 0
}

// TestUserNamespaces has a stranger call itself root, or us, in a namespace of its own.
func TestUserNamespaces(t *testing.T) {
	if !asRoot(t) {
		t.Skip("giving a child another uid and a user namespace needs root: run this test as root")
	}
	owners := ownersBy(t, access.ByNetlink)
	lis := listening(t, "tcp4", "127.0.0.1:0")
	gate := newGate(t, access.GateOptions{UID: 0, Owners: owners})
	rec := record(gate.Loopback(lis))
	defer rec.close()

	t.Run("peer in one", func(t *testing.T) {
		cmd := stranger(t, "knock", lis.Addr().String(), "send and wait", "10")
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: nobody, Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids,
			Credential: &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
		}
		if got := output(t, cmd)[0]; got != "connected 10 times, heard 0 bytes" {
			t.Errorf("root of a namespace %s", got)
		}
		if got := gate.Refused()["other_user"]; got != 10 {
			t.Errorf("refused %v, want 10 of another user", gate.Refused())
		}
	})
	t.Run("server in one that maps nobody", func(t *testing.T) {
		cmd := stranger(t, "owners")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
		if got := output(t, cmd)[0]; got != "65534 true" {
			t.Errorf("a gate among users without number: uid and refusal are %s, want 65534 true", got)
		}
	})
}

func TestRootIsAnotherUserToo(t *testing.T) {
	if !asRoot(t) {
		t.Skip("needs root, as it is about root: run this test as root")
	}
	server := started(t, stranger(t, "serve"))
	if welcomed(server.first) {
		t.Error("root was let in")
	}
	if got := server.stop(); got != "accepted 0, refused map[other_user:1]" {
		t.Error(got)
	}
}

// TestOurOwnHalfClosed documents what a client must not do: what is not
// established at both ends cannot be told from what a stranger left behind.
func TestOurOwnHalfClosed(t *testing.T) {
	bothWays(t, func(t *testing.T, owners *access.Owners, lis net.Listener) {
		gate := newGate(t, access.GateOptions{UID: ourUID(), Owners: owners})
		first, err := net.Dial(lis.Addr().Network(), lis.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = first.Close() }()
		if err := first.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		rec := record(gate.Loopback(lis))
		defer rec.close()
		if !welcomed(lis.Addr().String()) {
			t.Error("the second was not let in")
		}
		if got := gate.Refused(); got["not_established"] != 1 {
			t.Errorf("refused %v, want one that is not established", got)
		}
	})
}

func TestPeerIsNamed(t *testing.T) {
	bothWays(t, func(t *testing.T, owners *access.Owners, lis net.Listener) {
		gate := newGate(t, access.GateOptions{UID: ourUID(), Owners: owners})
		rec := record(gate.Loopback(lis))
		if !welcomed(lis.Addr().String()) {
			t.Fatal("not let in")
		}
		rec.close()
		if got := rec.conns(); len(got) != 1 || got[0].peer != (access.Peer{UID: ourUID()}) {
			t.Errorf("connections of %v, want one of our uid", got)
		}
		if gate.Open() != 0 {
			t.Errorf("%d places are taken after all have closed", gate.Open())
		}
	})
}

// TestLimits fills the places of our own connections.
func TestLimits(t *testing.T) {
	lis := listening(t, "tcp4", "127.0.0.1:0")
	gate := newGate(t, access.GateOptions{UID: ourUID(), Owners: ownersBy(t, access.ByNetlink), MaxConns: 2})
	rec := record(gate.Loopback(lis))
	defer rec.close()
	var held []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", lis.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := io.ReadFull(c, make([]byte, len("welcome\n"))); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	if welcomed(lis.Addr().String()) {
		t.Error("a third connection was let in")
	}
	_ = held[0].Close()
	eventually(t, "the server closes its end", func() bool { return gate.Open() < 2 })
	if !welcomed(lis.Addr().String()) {
		t.Error("a place that was given back was not given out again")
	}
}

// TestLookupFailures breaks the way to the kernel.
func TestLookupFailures(t *testing.T) {
	lis := listening(t, "tcp4", "127.0.0.1:0")
	owners := ownersBy(t, access.ByNetlink)
	gate := newGate(t, access.GateOptions{UID: ourUID(), Owners: owners})
	rec := record(gate.Loopback(lis))
	defer rec.close()
	if err := owners.Break(); err != nil {
		t.Fatal(err)
	}
	if !welcomed(lis.Addr().String()) {
		t.Error("the way to the kernel was not opened again")
	}
	if err := owners.BreakForGood(); err != nil {
		t.Fatal(err)
	}
	if welcomed(lis.Addr().String()) {
		t.Error("one who could not be looked up was let in")
	}
	if got := gate.Refused()["lookup_failed"]; got != 1 {
		t.Errorf("refused %v", gate.Refused())
	}
}

// TestCloseEndsAccept also while Accept is held up by refusals.
func TestCloseEndsAccept(t *testing.T) {
	lis := listening(t, "tcp4", "127.0.0.1:0")
	gate := newGate(t, access.GateOptions{UID: ourUID() + 1, Owners: ownersBy(t, access.ByNetlink), RefusingShare: 1e-6})
	guarded := gate.Loopback(lis)
	ended := make(chan error, 1)
	go func() {
		_, err := guarded.Accept()
		ended <- err
	}()
	for range 3 { // the third would wait two seconds
		if c, err := net.Dial("tcp", lis.Addr().String()); err == nil {
			defer func() { _ = c.Close() }()
		}
	}
	if err := guarded.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept ended with %v, want net.ErrClosed", err)
	}
}

// TestRefusalsAreLoggedSparsely keeps strangers from filling the disk.
func TestRefusalsAreLoggedSparsely(t *testing.T) {
	var log bytes.Buffer
	lis := listening(t, "tcp4", "127.0.0.1:0")
	gate := newGate(t, access.GateOptions{
		UID: ourUID() + 1, Owners: ownersBy(t, access.ByNetlink), Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	rec := record(gate.Loopback(lis))
	for range 50 {
		if welcomed(lis.Addr().String()) {
			t.Fatal("a stranger was let in")
		}
	}
	rec.close()
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 1 || !strings.Contains(lines[0], "reason=other_user") || !strings.Contains(lines[0], "suppressed=0") {
		t.Errorf("50 refusals gave the log\n%s", log.String())
	}
}

// TestOnlyLoopback refuses connections by an address of the host's network.
func TestOnlyLoopback(t *testing.T) {
	lis := listening(t, "tcp4", "0.0.0.0:0")
	at := hostAddr(t)
	gate := newGate(t, access.GateOptions{UID: ourUID(), Owners: ownersBy(t, access.ByNetlink)})
	rec := record(gate.Loopback(lis))
	defer rec.close()
	_, port, err := net.SplitHostPort(lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if welcomed(net.JoinHostPort(at, port)) {
		t.Errorf("a connection by %s was let in", at)
	}
	if !welcomed(net.JoinHostPort("127.0.0.1", port)) {
		t.Error("one by loopback was not")
	}
}

// TestOnlyPlainTCP refuses connections of MPTCP, which have more than one pair of
// addresses. What Bind makes never gives any.
func TestOnlyPlainTCP(t *testing.T) {
	if on, err := os.ReadFile("/proc/sys/net/mptcp/enabled"); err != nil || string(on) != "1\n" {
		t.Skip("this kernel has no MPTCP: run this test where net.mptcp.enabled is 1")
	}
	lis, err := net.Listen("tcp4", "127.0.0.1:0") // as Go does it by default
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	var d net.Dialer
	d.SetMultipathTCP(true)
	c, err := d.Dial("tcp", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if m, err := c.(*net.TCPConn).MultipathTCP(); err != nil || !m {
		t.Fatalf("the connection is none of MPTCP: %v, %v", m, err)
	}
	gate := newGate(t, access.GateOptions{UID: ourUID(), Owners: ownersBy(t, access.ByNetlink)})
	rec := record(gate.Loopback(lis))
	defer rec.close()
	if !welcomed(lis.Addr().String()) {
		t.Error("a plain connection was not let in")
	}
	if got := gate.Refused()["lookup_failed"]; got != 1 {
		t.Errorf("refused %v, want the one of several paths", gate.Refused())
	}
}

// hostAddr returns an address of this host that is not loopback.
func hostAddr(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	t.Skip("this host has no address but loopback: run this test on one with a network")
	return ""
}
