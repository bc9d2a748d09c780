// Package runtimedir finds the directory for what lives only as long as the
// machine is up: sockets, locks, process ids.
//
// It guarantees that the directory is ours alone: a directory of our uid, not a
// symbolic link, closed to everybody else. On a shared host anybody can make
// /tmp/dspy-agent-1000 before its user does, so what does not fit is refused
// and never repaired.
//
// After a crash the directory holds stale sockets and locks; whoever owns those
// deals with them. After a reboot it is empty or gone.
package runtimedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// ErrUnsafe is returned when the directory exists but is not ours alone.
var ErrUnsafe = errors.New("the runtime directory is not safe to use")

const name = "dspy-agent"

// Path returns where the directory is: below XDG_RUNTIME_DIR, whose value the
// caller passes, else in /tmp with the uid in its name. It does not look.
func Path(xdgRuntimeDir string, uid int) string {
	if filepath.IsAbs(xdgRuntimeDir) {
		return filepath.Join(xdgRuntimeDir, name)
	}
	return filepath.Join("/tmp", name+"-"+strconv.Itoa(uid))
}

// Dir returns Path after making the directory if it is not there, and checking
// that it is ours alone. A session whose XDG_RUNTIME_DIR points to a directory
// that is gone (su, cron, a container) gets the one in /tmp.
func Dir(xdgRuntimeDir string, uid int) (string, error) {
	dir := Path(xdgRuntimeDir, uid)
	err := Ensure(dir, uid)
	if errors.Is(err, fs.ErrNotExist) && xdgRuntimeDir != "" {
		dir = Path("", uid)
		err = Ensure(dir, uid)
	}
	if err != nil {
		return "", err
	}
	return dir, nil
}

// Ensure makes the directory if it is not there and checks that it is ours
// alone. Its parent must exist.
func Ensure(dir string, uid int) error {
	err := os.Mkdir(dir, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make runtime directory: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("look at runtime directory: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return fmt.Errorf("%w: %s: its owner cannot be told", ErrUnsafe, dir)
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%w: %s is a symbolic link; remove it", ErrUnsafe, dir)
	case !info.IsDir():
		return fmt.Errorf("%w: %s is not a directory; remove it", ErrUnsafe, dir)
	case int(st.Uid) != uid:
		return fmt.Errorf("%w: %s belongs to uid %d; ask for its removal, or set XDG_RUNTIME_DIR to a directory of your own", ErrUnsafe, dir, st.Uid)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%w: %s is open to others (mode %04o); run: chmod 700 %s", ErrUnsafe, dir, info.Mode().Perm(), dir)
	}
	return nil
}
