package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const ownerFile = "owner.json"

// Owner says who has the queue open for writing. The lock itself is on the
// database, where it cannot outlive its process; owner.json only tells people
// whom the lock belongs to, and is replaced by whoever gets the lock next.
type Owner struct {
	Host       string    `json:"host"`
	BootID     string    `json:"boot_id"`     // another one: the host was started anew since
	PID        int       `json:"pid"`         //
	StartTicks uint64    `json:"start_ticks"` // tells the process from a later one with its pid
	Fence      uint64    `json:"fence"`       // grows with every opening
	StartedAt  time.Time `json:"started_at"`
	Socket     string    `json:"socket,omitempty"` // where it can be reached
}

// ErrLocked is what errors.Is finds in a LockedError.
var ErrLocked = errors.New("the queue is in use by another process")

// LockedError is returned by Open when another process has the queue open.
type LockedError struct {
	Dir   string
	Owner *Owner // nil when it did not say who it is
}

// Error names the holder.
func (e *LockedError) Error() string {
	if e.Owner == nil {
		return fmt.Sprintf("queue directory %s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("queue directory %s is in use by pid %d on host %s since %s",
		e.Dir, e.Owner.PID, e.Owner.Host, e.Owner.StartedAt.Local().Format("2006-01-02 15:04"))
}

// Is makes errors.Is(err, ErrLocked) true.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// thisProcess describes the running process. What cannot be found out is left
// empty: it serves people, not decisions.
func thisProcess(fence uint64, now time.Time) Owner {
	o := Owner{PID: os.Getpid(), Fence: fence, StartedAt: now.UTC()}
	o.Host, _ = os.Hostname()
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		o.BootID = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/self/stat"); err == nil {
		o.StartTicks = startTicks(b)
	}
	return o
}

// startTicks finds field 22 of /proc/PID/stat. The second field, the program's
// name, may itself hold spaces and parentheses, so counting begins after its end.
func startTicks(stat []byte) uint64 {
	_, rest, _ := bytes.Cut(stat[max(bytes.LastIndexByte(stat, ')'), 0):], []byte(" "))
	fields := bytes.Fields(rest)
	const field = 22 - 3 // rest begins with field 3
	if len(fields) <= field {
		return 0
	}
	n, _ := strconv.ParseUint(string(fields[field]), 10, 64)
	return n
}

func writeOwner(dir string, o Owner) error {
	b, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	return writeFileAtomic(filepath.Join(dir, ownerFile), append(b, '\n'))
}

// readOwner returns nil when nobody can be named.
func readOwner(dir string) *Owner {
	b, err := os.ReadFile(filepath.Join(dir, ownerFile))
	if err != nil {
		return nil
	}
	var o Owner
	if json.Unmarshal(b, &o) != nil || o.PID == 0 {
		return nil
	}
	return &o
}

func removeOwner(dir string) { _ = os.Remove(filepath.Join(dir, ownerFile)) } // a stale one does no harm
