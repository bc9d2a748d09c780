package rpc_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
)

// TestRemovedSocketComesBack removes the socket alone, and then all that lies in
// its directory: the daemon has to be reachable again, and hold its lock.
func TestRemovedSocketComesBack(t *testing.T) {
	t.Parallel()
	root, err := os.MkdirTemp("", "sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	dir := filepath.Join(root, "d")
	path := filepath.Join(dir, "x.sock")
	l, err := rpc.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				done <- err
				return
			}
			_ = c.Close()
		}
	}()
	for _, gone := range []string{path, dir} {
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
		deadline := time.After(20 * time.Second)
		for {
			c, err := net.Dial("unix", path)
			if err == nil {
				_ = c.Close()
				break
			}
			select {
			case <-deadline:
				t.Fatalf("after %s was removed: %v", gone, err)
			case <-time.After(10 * time.Millisecond):
			}
		}
		if other, err := rpc.ListenUnix(path); err == nil {
			_ = other.Close()
			t.Errorf("after %s was removed, a second daemon could listen", gone)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept ended with %v", err)
	}
}
