package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
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
	GRPC       string    `json:"grpc,omitempty"`   // the same over TCP: HOST:PORT
	HTTP       string    `json:"http,omitempty"`
}

// ErrLocked is what errors.Is finds in a LockedError.
var ErrLocked = errors.New("the queue is in use by another process")

// LockedError is returned by Open when another process has the queue open.
type LockedError struct {
	Dir   string
	Owner *Owner // nil when it did not say who it is
	PID   int    // of one that did not, as far as the kernel tells; 0 = it does not
}

// Error names the holder.
func (e *LockedError) Error() string {
	if e.Owner == nil && e.PID != 0 {
		return fmt.Sprintf("queue directory %s is in use by pid %d", e.Dir, e.PID)
	}
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
	if id, err := host.This(); err == nil {
		o.Host = id.Name
	}
	if p, err := host.Self(); err == nil {
		o.BootID, o.StartTicks = p.Boot, p.Start
	}
	return o
}

// Announce tells those who read owner.json where else this process can be
// reached: HOST:PORT for gRPC and for HTTP, "" where it cannot.
func (q *Queue) Announce(grpc, http string) error {
	q.owner.GRPC, q.owner.HTTP = grpc, http
	if err := writeOwner(q.opts.Dir, q.owner); err != nil {
		return fmt.Errorf("write %s: %w", ownerFile, err)
	}
	return nil
}

func writeOwner(dir string, o Owner) error {
	b, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	return writeFileAtomic(filepath.Join(dir, ownerFile), append(b, '\n'))
}

// locked is the error for a queue that somebody else has open.
func (q *Queue) locked() *LockedError {
	locked := &LockedError{Dir: q.opts.Dir, Owner: readOwner(q.opts.Dir)}
	holder := host.Holder(q.path)
	if o := locked.Owner; o != nil && (holder != 0 && holder != o.PID || o.ended()) {
		locked.Owner = nil // whoever has it now has not said so yet, or only reads
	}
	if locked.Owner == nil {
		locked.PID = holder
	}
	return locked
}

// ended says that the owner was a process of this host that is there no more. Of one
// elsewhere, such as in another container, nobody here can tell.
func (o *Owner) ended() bool {
	here, err := host.This()
	if err != nil || here.Boot != o.BootID || here.Name != o.Host {
		return false
	}
	return !host.Process{PID: o.PID, Start: o.StartTicks, Boot: o.BootID}.Runs()
}

// readOwner returns nil when nobody can be named.
func readOwner(dir string) *Owner {
	b, err := os.ReadFile(filepath.Join(dir, ownerFile))
	if err != nil {
		return nil
	}
	return parseOwner(b)
}

// parseOwner returns nil for what names nobody. A pid that is none would end up in
// advice to kill it.
func parseOwner(b []byte) *Owner {
	var o Owner
	if json.Unmarshal(b, &o) != nil || o.PID <= 0 {
		return nil
	}
	return &o
}

func removeOwner(dir string) { _ = os.Remove(filepath.Join(dir, ownerFile)) } // a stale one does no harm
