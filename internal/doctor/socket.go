package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/host"
)

// maxSocketPath is the length of the longest path that a Unix socket can have: the
// kernel keeps it in 108 bytes, the last of which is 0.
const maxSocketPath = 107

// checkSocket looks at the daemon's socket, and who is behind it.
func checkSocket(ctx context.Context, x *examination, cfg config.Config) []Finding {
	path := x.socket(cfg)
	if len(path) > maxSocketPath {
		return bad(Problem, fmt.Sprintf("the path of the socket, %s, is %d bytes long, and the kernel takes at most %d", path, len(path), maxSocketPath),
			"set XDG_RUNTIME_DIR to a directory with a shorter name")
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && x.liveOwner() != nil:
		return bad(Warning, fmt.Sprintf("the daemon runs, and its socket %s is gone", path), "wait a few seconds, the daemon makes it again; if it stays away, see the daemon's log")
	case errors.Is(err, fs.ErrNotExist):
		return good("%s is made when the daemon starts", path)
	case err != nil:
		return bad(Problem, fmt.Sprintf("cannot look at the socket %s: %s", path, cause(err)), "")
	case info.Mode().Type() != fs.ModeSocket:
		return bad(Problem, fmt.Sprintf("%s is in the way of the socket: it is none", path), "remove it")
	case info.Mode().Perm()&0o077 != 0:
		return bad(Warning, fmt.Sprintf("the socket %s is open to others (mode %04o)", path, info.Mode().Perm()), "chmod 600 "+path)
	}
	l, err := listenerOf(ctx, path, x.UID)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return bad(Note, fmt.Sprintf("a daemon that is gone left the socket %s; the next one replaces it", path), "")
	case errors.Is(err, errStranger):
		return bad(Problem, fmt.Sprintf("the socket %s cannot be used: %s", path, err), actAsOwner)
	case err != nil:
		return bad(Problem, fmt.Sprintf("the socket %s cannot be used: %s", path, err), "")
	}
	return good("pid %d listens at %s", l.pid, path)
}

// listening is the process that listens at a Unix socket.
type listening struct {
	path string
	pid  int
}

// errStranger is the error about a socket at which another user listens.
var errStranger = errors.New("another user listens there")

// listenerOf returns who listens at a socket, having made sure that it is one of the
// user's. It says nothing to them.
func listenerOf(ctx context.Context, path string, uid int) (listening, error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return listening{path: path}, err
	}
	defer conn.Close()
	peer, err := host.PeerOf(conn)
	if err == nil && int(peer.UID) != uid {
		err = fmt.Errorf("%w: %s", errStranger, userText(int(peer.UID)))
	}
	return listening{path: path, pid: int(peer.PID)}, err
}
