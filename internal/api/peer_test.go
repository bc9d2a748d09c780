package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// nobody is a uid that is not ours.
const nobody = 65534

// asNobody returns a command that plays the role under another uid.
func asNobody(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("acting as another user needs root")
	}
	// Where go test puts its binary, another user cannot go.
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "other")
	if err := os.WriteFile(exe, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = []string{roleVar + "=" + role}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

// knock begins as an HTTP/2 client does, and prints what it hears.
func knock(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	// The server may have closed already; what it says is what counts.
	_, _ = io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	heard, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		return err
	}
	fmt.Printf("heard %d bytes\n", len(heard))
	return nil
}

func TestOtherUserIsRefused(t *testing.T) {
	f := setup(t)
	// The file system would keep the other user out. Open it, so that only the
	// look at the peer is left.
	for path, mode := range map[string]os.FileMode{filepath.Dir(f.socket): 0o755, f.socket: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	out, err := asNobody(t, "knock", f.socket).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(out); got != "heard 0 bytes\n" {
		t.Errorf("another user %s; want not a byte", got)
	}
	f.submit("still-serving")
}

// serveUntilEOF serves on a socket, whose path it prints.
func serveUntilEOF() error {
	dir, err := os.MkdirTemp("/tmp", "api")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	q, m, err := openQueue(context.Background(), filepath.Join(dir, "queue"), queue.Retention{})
	if err != nil {
		return err
	}
	srv, err := api.New(api.Options{
		Queue: queuePort{q}, Log: logPort{q}, Mover: mover{q: q}, Outputs: newOutputs(), Metrics: m, Pauser: pauser{q}, Keeper: keeper{q}, Stats: statsOf(q), Class: classes,
		Info: func() api.Info { return api.Info{} }, Workspace: "/", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	lis, err := rpc.ListenUnix(filepath.Join(dir, "s"))
	if err != nil {
		return err
	}
	stop := running(srv, lis)
	fmt.Println(lis.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return errors.Join(stop(), q.Close())
}

func TestRootIsAnotherUserToo(t *testing.T) {
	cmd := asNobody(t, "serve")
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
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	socket, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	socket = strings.TrimSpace(socket)

	t.Run("by the server", func(t *testing.T) {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if heard, err := io.ReadAll(conn); err != nil || len(heard) > 0 {
			t.Errorf("root heard %d bytes, %v; want none", len(heard), err)
		}
	})
	t.Run("by the client", func(t *testing.T) {
		_, err := api.Dial(t.Context(), api.Target{Socket: socket})
		wantCode(t, err, task.CodeConflict)
	})
}

func TestPeerIsKnown(t *testing.T) {
	f := setup(t)
	if got, want := f.submit("a").Spec.SubmitUID, uint32(os.Geteuid()); got != want {
		t.Errorf("submitted by uid %d, want %d", got, want)
	}
	if got := f.lookup("a").Spec.Via; got != "socket" {
		t.Errorf("submitted via %q", got)
	}
	want := fmt.Sprintf("uid %d", os.Geteuid())
	if got := (rpc.Peer{UID: uint32(os.Geteuid())}).String(); !strings.HasPrefix(got, want) {
		t.Errorf("peer is called %q, want %q and a name", got, want)
	}
}
