package access_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/access"
)

// nobody is the uid of strangers where we may act as one.
const nobody = 65534

func ourUID() uint32 { return uint32(os.Geteuid()) }

// asRoot says whether children can be given another uid. Where they cannot, they
// run as we do, and the server is told that another uid is its own: the look at
// the peer is the same, and its outcome too.
func asRoot(t testing.TB) bool {
	if os.Geteuid() == 0 {
		return true
	}
	t.Log("not root: strangers run under our own uid, and the server under a pretended one")
	return false
}

// serverUID is the uid that a Gate has to be given so that stranger is one.
func serverUID(t testing.TB) uint32 {
	if asRoot(t) {
		return 0
	}
	return ourUID() + 1
}

// strangerUID is the uid under which strangers run.
func strangerUID(t testing.TB) uint32 {
	if asRoot(t) {
		return nobody
	}
	return ourUID()
}

// stranger returns a command that plays the role under another uid.
func stranger(t testing.TB, role string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(ownCopy(t), args...)
	// The race detector would have each child wait a second before it ends.
	cmd.Env = []string{roleVar + "=" + role, "GORACE=atexit_sleep_ms=0"}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	if asRoot(t) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return cmd
}

// ownCopy copies this program to where another user can run it: not where go test
// put it.
func ownCopy(t testing.TB) string {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "access")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "other")
	if err := os.WriteFile(exe, self, 0o755); err != nil {
		t.Fatal(err)
	}
	return exe
}

// output runs a command to its end and returns the lines it printed.
func output(t testing.TB, cmd *exec.Cmd) []string {
	t.Helper()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// A child that runs until its input ends.
type child struct {
	first string // line it printed
	stop  func() string
}

// started starts a child; stop ends it and returns what else it printed.
func started(t testing.TB, cmd *exec.Cmd) child {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	first, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceValue(func() string {
		_ = stdin.Close()
		rest, _ := io.ReadAll(lines)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		return strings.TrimSpace(string(rest))
	})
	t.Cleanup(func() { stop() })
	return child{first: strings.TrimSpace(first), stop: stop}
}

// ownersBy opens one way to look.
func ownersBy(t testing.TB, method string) *access.Owners {
	t.Helper()
	o, err := access.OwnersBy(method)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// methods are the ways to look. Tests run with each.
var methods = []string{access.ByNetlink, access.ByProc}

// loopbacks are the addresses to listen at, with the network of each.
var loopbacks = map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}

// bothWays runs a test for each way to look and each family of addresses.
func bothWays(t *testing.T, test func(t *testing.T, owners *access.Owners, lis net.Listener)) {
	for _, method := range methods {
		for network, addr := range loopbacks {
			t.Run(method+" "+network, func(t *testing.T) {
				owners := ownersBy(t, method)
				test(t, owners, listening(t, network, addr))
			})
		}
	}
}

// listening listens as the product does: without MPTCP.
func listening(t testing.TB, network, addr string) net.Listener {
	t.Helper()
	var conf net.ListenConfig
	conf.SetMultipathTCP(false)
	lis, err := conf.Listen(t.Context(), network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	return lis
}

func newGate(t testing.TB, o access.GateOptions) *access.Gate {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	gate, err := access.NewGate(o)
	if err != nil {
		t.Fatal(err)
	}
	return gate
}

// A recorder takes connections and keeps what they sent.
type recorder struct {
	lis  net.Listener
	wg   sync.WaitGroup
	mu   sync.Mutex
	got  []received
	open []net.Conn
}

type received struct {
	peer access.Peer
	text string
}

// record takes connections from a listener until close. It greets each, reads it
// to its end and closes it.
func record(lis net.Listener) *recorder {
	r := &recorder{lis: lis}
	r.wg.Go(func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.open = append(r.open, c)
			r.mu.Unlock()
			r.wg.Go(func() { r.take(c) })
		}
	})
	return r
}

func (r *recorder) take(c net.Conn) {
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "welcome\n")
	text, _ := io.ReadAll(c)
	peer, _ := access.PeerOf(c)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, received{peer, string(text)})
}

// close ends the recorder and all its connections.
func (r *recorder) close() {
	_ = r.lis.Close()
	r.mu.Lock()
	for _, c := range r.open {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// conns returns what was received on connections that have ended.
func (r *recorder) conns() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got
}

// eventually waits for what another goroutine or the kernel is about to do.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	late := time.After(10 * time.Second)
	for !done() {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// welcomed connects and says whether the server greets, which it does only after
// it let the connection in.
func welcomed(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	line, err := bufio.NewReader(c).ReadString('\n')
	return err == nil && line == "welcome\n"
}
