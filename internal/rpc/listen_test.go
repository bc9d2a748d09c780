package rpc_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func TestListenUnix(t *testing.T) {
	path := filepath.Join(shortDir(t), "new", "s")
	lis, err := rpc.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Lstat(name)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %o", name, info.Mode(), err, want)
		}
	}
	_, err = rpc.ListenUnix(path)
	wantCode(t, err, task.CodeConflict)
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	again, err := rpc.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

// leaveStale leaves a socket as a killed process does.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	lis.SetUnlinkOnClose(false)
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestOneOfManyReplacesTheStaleSocket starts many at once; exactly one may win,
// and its socket must be the one that is there.
func TestOneOfManyReplacesTheStaleSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	leaveStale(t, path)
	var (
		mu  sync.Mutex
		won []net.Listener
		wg  sync.WaitGroup
	)
	for range 16 {
		wg.Go(func() {
			lis, err := rpc.ListenUnix(path)
			if err != nil {
				if task.CodeOf(err) != task.CodeConflict {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			won = append(won, lis)
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d listeners", len(won))
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(conn.Close(), won[0].Close()); err != nil {
		t.Error(err)
	}
}

func TestListenUnixRefuses(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "s")

	t.Run("a long path", func(t *testing.T) {
		_, err := rpc.ListenUnix(filepath.Join(dir, strings.Repeat("x", 108)))
		wantCode(t, err, task.CodeInvalid)
	})
	t.Run("a file", func(t *testing.T) {
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := rpc.ListenUnix(file)
		wantCode(t, err, task.CodeConflict)
		if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
			t.Errorf("the file is %q, %v", b, err)
		}
	})
	t.Run("a listener without the lock", func(t *testing.T) {
		other, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = rpc.ListenUnix(path)
		wantCode(t, err, task.CodeConflict)
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a lock that is a link", func(t *testing.T) {
		if err := os.Symlink(filepath.Join(dir, "file"), filepath.Join(dir, "l.lock")); err != nil {
			t.Fatal(err)
		}
		if lis, err := rpc.ListenUnix(filepath.Join(dir, "l")); err == nil {
			t.Error("it was followed", lis.Close())
		}
	})
	t.Run("a stale socket that another process is about to replace", func(t *testing.T) {
		stale := filepath.Join(dir, "stale")
		leaveStale(t, stale)
		lock, err := os.Create(stale + ".lock")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = lock.Close() }()
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_SH); err != nil {
			t.Fatal(err)
		}
		_, err = rpc.ListenUnix(stale)
		wantCode(t, err, task.CodeConflict)
		if _, err := os.Lstat(stale); err != nil {
			t.Errorf("it was removed without the lock: %v", err)
		}
	})
	t.Run("an open directory", func(t *testing.T) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if lis, err := rpc.ListenUnix(path); !errors.Is(err, runtimedir.ErrUnsafe) {
			t.Errorf("got %v, %v", lis, err)
		}
	})
}
