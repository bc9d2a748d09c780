package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrLocked is returned by Lock when another process has the lock.
var ErrLocked = errors.New("another process holds the lock")

// Lock takes an exclusive flock(2) on the file, which it makes as needed (mode
// 0600) and does not follow if it is a link. It does not wait: where somebody
// has the lock the error wraps ErrLocked.
//
// The caller owns the file; the lock lasts until it is closed, or its process
// has ended in whatever way. Nobody may remove the file while others could be
// about to lock it: two processes would then hold two files of one name.
func Lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := LockOpen(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// LockOpen is Lock for a file or directory that is open already.
func LockOpen(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("%w: %s", ErrLocked, f.Name())
	case err != nil:
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// Holder returns the pid of the process that has an exclusive flock(2) on the file; 0
// if there is none, or if we may not look at it.
func Holder(path string) int { return holder(path, "WRITE") }

// Sharer returns the pid of a process that has a shared flock(2) on the file, in which
// it keeps others from an exclusive one; 0 as for Holder.
func Sharer(path string) int { return holder(path, "READ") }

// holder returns who has the file locked in the way that /proc/locks calls so.
func holder(path, way string) int {
	want, err := os.Stat(path)
	if err != nil {
		return 0
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(locks)) { // 1: FLOCK ADVISORY WRITE 4242 fd:01:17 0 EOF
		fields := strings.Fields(line)
		var pid int
		if len(fields) < 5 || fields[1] != "FLOCK" || fields[3] != way {
			continue
		}
		if _, err := fmt.Sscan(fields[4], &pid); err == nil && hasOpen(pid, want) {
			return pid
		}
	}
	return 0
}

// hasOpen says whether a process of ours has a file open.
func hasOpen(pid int, want os.FileInfo) bool {
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if to, err := os.Stat(fd); err == nil && os.SameFile(to, want) {
			return true
		}
	}
	return false
}
