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
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// ErrUnsafe is returned when the directory exists but is not ours alone.
var ErrUnsafe = errors.New("the runtime directory is not safe to use")

const name = "dspy-agent"

// Path returns where the directory is: below XDG_RUNTIME_DIR, whose value the
// caller passes, else in /tmp with the uid in its name. It makes nothing.
//
// What systemd makes in /run/user is removed when its user logs out, while our
// daemon and the tasks go on. It is used only where the user lingers; then cron,
// which sets no XDG_RUNTIME_DIR, comes to the same directory as a login.
func Path(xdgRuntimeDir string, uid int) string {
	login := filepath.Join(loginDirs, strconv.Itoa(uid))
	if xdgRuntimeDir == "" || filepath.Clean(xdgRuntimeDir) == login {
		xdgRuntimeDir = ""
		if lingers(uid) {
			xdgRuntimeDir = login
		}
	}
	if filepath.IsAbs(xdgRuntimeDir) && isDir(xdgRuntimeDir) {
		return filepath.Join(xdgRuntimeDir, name)
	}
	return filepath.Join("/tmp", name+"-"+strconv.Itoa(uid))
}

// Where systemd keeps the directories of logins, and the names of those who linger.
const (
	loginDirs = "/run/user"
	lingerDir = "/var/lib/systemd/linger"
)

// lingers says whether the user's processes and directory outlive a logout.
func lingers(uid int) bool {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(lingerDir, filepath.Base(u.Username)))
	return err == nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Dir returns Path after making the directory if it is not there, and checking
// that it is ours alone.
func Dir(xdgRuntimeDir string, uid int) (string, error) {
	dir := Path(xdgRuntimeDir, uid)
	if err := Ensure(dir, uid); err != nil {
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
