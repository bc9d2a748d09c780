package runtimedir_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
)

// TestSocketIsBoundAgain removes the socket, and the whole directory, under a
// listener: it has to be reachable again, and to take nothing of others away.
func TestSocketIsBoundAgain(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "keep")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "d", "s")
	l, err := runtimedir.Listen(path, func() (net.Listener, error) {
		if err := runtimedir.Ensure(filepath.Dir(path), os.Getuid()); err != nil {
			return nil, err
		}
		return net.Listen("unix", path)
	})
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
	for _, gone := range []string{path, filepath.Dir(path)} {
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
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept ended with %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// TestSocketBoundByAnotherNameIsRemoved binds through a name of the directory that
// is gone when the listener closes: its socket must not stay behind.
func TestSocketBoundByAnotherNameIsRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "socket")
	l, err := runtimedir.Listen(path, func() (net.Listener, error) {
		d, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/socket", d.Fd()))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}
