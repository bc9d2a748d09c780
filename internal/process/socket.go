package process

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
)

// errStranger is returned when the other end of the socket is not our user.
var errStranger = errors.New("the other end of the supervisor's socket belongs to another user")

// maxSocketPath is the longest path that a Unix socket can have.
const maxSocketPath = 107

// shortPath calls use with a name of the socket that the kernel accepts however
// long its path is.
func shortPath(path string, use func(string) error) error {
	if len(path) <= maxSocketPath {
		return use(path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // only a name for the directory
	return use("/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + filepath.Base(path))
}

// listen binds the socket. The caller holds the supervisor's lock, so whatever
// is there is left from one that was killed.
func listen(path string) (net.Listener, error) {
	if err := runtimedir.Ensure(filepath.Dir(path), os.Getuid()); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove stale socket: %w", err)
	}
	var l *net.UnixListener
	err := shortPath(path, func(p string) (err error) {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: p, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// dial connects and checks that the supervisor is our own user's.
func dial(path string) (*net.UnixConn, error) {
	var c *net.UnixConn
	err := shortPath(path, func(p string) (err error) {
		c, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: p, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := checkPeer(c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// checkPeer refuses a peer that is not our own user.
func checkPeer(c *net.UnixConn) error {
	p, err := host.PeerOf(c)
	if err != nil {
		return err
	}
	if int(p.UID) != os.Getuid() {
		return fmt.Errorf("%w: uid %d", errStranger, p.UID)
	}
	return nil
}

// Idle says whether no supervisor has the runtime directory.
func Idle(runtimeDir string) bool {
	return host.Holder(filepath.Join(runtimeDir, lockName)) == 0
}
