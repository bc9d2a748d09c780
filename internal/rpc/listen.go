package rpc

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// MaxSocketPath is the length of the longest path that a Unix socket can have:
// the kernel keeps it in 108 bytes, the last of which is 0.
const MaxSocketPath = 107

// ListenUnix listens on a Unix socket that only our own user can reach. Its
// directory is made if it is not there, and must be ours alone. A socket that a
// dead process left over is replaced; while one is listening the answer is an
// Error with CodeConflict. Closing the listener removes the socket.
//
// A lock file beside the socket is held as long as the listener is open. Without
// it, two processes that start together could both find the stale socket, and
// the slower one would remove the socket that the faster one had just made.
func ListenUnix(path string) (net.Listener, error) {
	if err := checkSocketPath(path); err != nil {
		return nil, err
	}
	l := &socketListener{path: path}
	kept, err := runtimedir.Listen(path, l.bind)
	if err != nil {
		return nil, errors.Join(err, l.unlock())
	}
	l.Listener = kept
	return l, nil
}

// bind makes what may be missing and binds the socket. It runs again when
// somebody has removed the socket, and then with the lock that is held, unless
// that was removed as well.
func (l *socketListener) bind() (net.Listener, error) {
	if err := runtimedir.Ensure(filepath.Dir(l.path), os.Geteuid()); err != nil {
		return nil, fmt.Errorf("directory of the socket: %w", err)
	}
	if !l.locked() {
		lock, err := lockSocket(l.path + ".lock")
		if err != nil {
			return nil, err
		}
		_ = l.unlock() // of a file that nobody can find any more
		l.lock = lock
	}
	return replaceSocket(l.path)
}

// locked says whether the lock that is held is the one that others would find.
func (l *socketListener) locked() bool {
	if l.lock == nil {
		return false
	}
	held, err := l.lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(l.path + ".lock")
	return err == nil && os.SameFile(held, there)
}

func (l *socketListener) unlock() error {
	if l.lock == nil {
		return nil
	}
	return l.lock.Close()
}

func checkSocketPath(path string) error {
	if len(path) <= MaxSocketPath {
		return nil
	}
	return task.Errorf(task.CodeInvalid,
		"socket path %s is %d bytes long, and the kernel takes at most %d; set XDG_RUNTIME_DIR to a directory with a shorter name",
		path, len(path), MaxSocketPath)
}

// lockSocket takes the lock, which the kernel releases when the process dies.
func lockSocket(path string) (*os.File, error) {
	f, err := host.Lock(path)
	switch {
	case errors.Is(err, host.ErrLocked):
		return nil, task.Errorf(task.CodeConflict, "another daemon holds %s", path)
	case err != nil:
		return nil, fmt.Errorf("lock of the socket: %w", err)
	}
	return f, nil
}

// replaceSocket listens after removing what a dead process left. The caller
// holds the lock.
func replaceSocket(path string) (*net.UnixListener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	// Until here the mode was the umask's; the directory kept others out.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("close the socket to others: %w", err), lis.Close())
	}
	return lis, nil
}

// removeStale removes a socket at which nobody listens, and nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return task.Errorf(task.CodeConflict, "%s exists and is not a socket; remove it", path)
	}
	// The answer is the kernel's and comes at once: taken, refused, or not now
	// because too many wait to be taken.
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	busy := task.Errorf(task.CodeConflict, "another process listens on %s", path)
	switch {
	case err == nil:
		return errors.Join(busy, conn.Close())
	case errors.Is(err, syscall.EAGAIN):
		return busy
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("ask whether somebody listens on %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove a stale socket: %w", err)
	}
	return nil
}

// socketListener keeps the lock until the socket is removed.
type socketListener struct {
	net.Listener
	path string
	lock *os.File // touched by bind, and after Listener is closed
}

// Close removes the socket, then lets the lock go. Closing again is an error, as
// for every listener.
func (l *socketListener) Close() error {
	return errors.Join(l.Listener.Close(), l.unlock())
}
