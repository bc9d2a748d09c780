package access

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// ErrAmbiguousUser is returned when our uid is the one under which the kernel
// shows all users that have no number in this user namespace.
var ErrAmbiguousUser = errors.New("in this user namespace other users look like ourselves")

// users is who may come in.
type users struct {
	ours       uint32
	restricted []uint32 // may read /health and /metrics only
	// nobody stands for every user that has no number in our user namespace
	// (user_namespaces(7), "Unmapped user and group IDs").
	nobody  uint32
	unclear bool // there are such users
}

// newUsers fails where our own uid cannot be told from that of others.
func newUsers(ours uint32, restricted []uint32) (users, error) {
	u := users{ours: ours, restricted: restricted}
	uidMap, err := os.ReadFile("/proc/self/uid_map")
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without user namespaces
		return users{}, fmt.Errorf("user namespace: %w", err)
	}
	u.unclear = err == nil && !mapsAll(string(uidMap))
	if u.nobody, err = overflowUID(); err != nil {
		return users{}, err
	}
	if u.unclear && ours == u.nobody {
		return users{}, fmt.Errorf("%w: uid %d stands for all who have none here; use the Unix socket, or a user namespace that maps our uid", ErrAmbiguousUser, ours)
	}
	return u, nil
}

// mapsAll says whether a uid_map gives a number to all of the 2^32-1 uids.
func mapsAll(uidMap string) bool {
	var sum uint64
	for line := range strings.Lines(uidMap) {
		cols := strings.Fields(line)
		if len(cols) != 3 {
			return false
		}
		n, err := strconv.ParseUint(cols[2], 10, 32)
		if err != nil {
			return false
		}
		sum += n
	}
	return sum == 1<<32-1
}

// overflowUID returns the number that stands for users without one.
func overflowUID() (uint32, error) {
	text, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if errors.Is(err, fs.ErrNotExist) {
		return 65534, nil // DEFAULT_OVERFLOWUID, include/linux/highuid.h
	}
	if err != nil {
		return 0, fmt.Errorf("uid of users without one: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("uid of users without one: %w", err)
	}
	return uint32(n), nil
}

// admits says whether a user may come in, and whether only to look.
func (u users) admits(uid uint32) (restricted, ok bool) {
	switch {
	case u.unclear && uid == u.nobody:
		return false, false
	case uid == u.ours:
		return false, true
	}
	ok = slices.Contains(u.restricted, uid)
	return ok, ok
}

// userText names a user for people: "uid 1000 (alice)".
func userText(uid uint32) string {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return fmt.Sprintf("uid %d", uid)
	}
	return fmt.Sprintf("uid %d (%s)", uid, u.Username)
}
