package queue

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
)

// OwnerFile is where the owner of a queue says who it is.
const OwnerFile = "owner.json"

// Role is what an owner has the queue open for.
type Role string

// The roles.
const (
	RoleDaemon  Role = "daemon"  // until it is stopped
	RoleDrain   Role = "drain"   // until nothing is left to do, or its time is over
	RoleCommand Role = "command" // for one call
)

// Owner says who has the queue open for writing: it is the lease, and tells people
// where the owner can be reached.
type Owner struct {
	// Lease is random, and of this opening alone. Older releases have none.
	Lease      string    `json:"lease,omitempty"`
	Role       Role      `json:"role,omitempty"`
	Host       string    `json:"host"`              // its name, for people
	Machine    string    `json:"machine,omitempty"` // see host.Identity
	BootID     string    `json:"boot_id"`           // another one: another kernel, or the host was started anew since
	PIDs       uint64    `json:"pid_namespace,omitempty"`
	PID        int       `json:"pid"`                  //
	StartTicks uint64    `json:"start_ticks"`          // tells the process from a later one with its pid
	Generation int       `json:"generation,omitempty"` // of the database; see generation.go
	Fence      uint64    `json:"fence"`                // grows with every opening; 0 until it is known
	StartedAt  time.Time `json:"started_at"`
	Socket     string    `json:"socket,omitempty"` // where it can be reached
	GRPC       string    `json:"grpc,omitempty"`   // the same over TCP: HOST:PORT
	HTTP       string    `json:"http,omitempty"`
}

// thisProcess describes the running process.
func thisProcess(role Role, now time.Time) (Owner, error) {
	id, err := host.This()
	if err != nil {
		return Owner{}, err
	}
	p, err := host.Self()
	if err != nil {
		return Owner{}, err
	}
	return Owner{
		Lease: newLeaseID(), Role: role, Host: id.Name, Machine: id.Machine, BootID: id.Boot, PIDs: id.PIDs,
		PID: p.PID, StartTicks: p.Start, StartedAt: now.UTC(),
	}, nil
}

func (o *Owner) process() host.Process {
	return host.Process{PID: o.PID, Start: o.StartTicks, Boot: o.BootID}
}

// ended says that the owner was a process of this host that is there no more. Of one
// elsewhere, such as in another container, nobody here can tell.
func (o *Owner) ended() bool {
	here, err := host.This()
	if err != nil || here.Boot != o.BootID || here.Name != o.Host {
		return false
	}
	return !o.process().Runs()
}

// String names the owner for people: "pid 7 (drain) on host login2".
func (o *Owner) String() string {
	if o.Role == "" { // an older release
		return fmt.Sprintf("pid %d on host %s", o.PID, o.Host)
	}
	return fmt.Sprintf("pid %d (%s) on host %s", o.PID, o.Role, o.Host)
}

// seat is what a file in the form of owner.json says at one moment.
type seat struct {
	// key tells this content from every other; "" = there is no file.
	key string
	// owner is nil when nobody can be named.
	owner *Owner
}

var leaseID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// readSeat reads such a file. That it cannot be read is an error; that it says
// nothing sensible is not.
func readSeat(path string) (seat, error) {
	b, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return seat{}, nil
	}
	if err != nil {
		return seat{}, fmt.Errorf("read who has the queue: %w", err)
	}
	return parseSeat(b), nil
}

func parseSeat(b []byte) seat {
	var o Owner
	if json.Unmarshal(b, &o) != nil || o.PID <= 0 || o.BootID == "" {
		return seat{key: contentKey(b)}
	}
	if o.Generation == 0 {
		o.Generation = 1 // older releases know no other
	}
	if !leaseID.MatchString(o.Lease) {
		return seat{key: contentKey(b), owner: &o}
	}
	return seat{key: o.Lease, owner: &o}
}

// contentKey is a key for what has none. It becomes part of a file's name.
func contentKey(b []byte) string {
	sum := sha256.Sum256(b)
	return "x" + hex.EncodeToString(sum[:16])
}

// ErrOwnerDamaged is returned when the file is there and does not tell who owns the
// queue. An owner replaces it in one step, so it was written by somebody else, or the
// disk was full or failed.
var ErrOwnerDamaged = errors.New("the file is damaged")

// WhoOwns returns who says to own the queue in a directory, who may be gone; nil where
// nobody does. The error matches fs.ErrPermission or ErrOwnerDamaged. A directory on a
// file server may hang: see Answers.
func WhoOwns(dir string) (*Owner, error) {
	path := filepath.Join(dir, OwnerFile)
	s, err := readSeat(path)
	switch {
	case errors.Is(err, fs.ErrPermission): // it and its folder are for the owner's eyes alone
		return nil, fmt.Errorf("the queue in %s is closed to you: %w", dir, fs.ErrPermission)
	case err != nil:
		return nil, fmt.Errorf("%s cannot be read: %w: %w", path, bare(err), ErrOwnerDamaged)
	case s.owner == nil && s.key != "":
		return nil, fmt.Errorf("%s does not tell who owns the queue: %w", path, ErrOwnerDamaged)
	}
	return s.owner, nil
}

// bare is an error of a file without the name of the file.
func bare(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// Runs says whether the owner is a process that runs on this host, where its pid means
// something.
func (o *Owner) Runs() bool { return o != nil && o.process().Runs() }

// Holder returns the pid of the process on this host that has the database of a
// directory open and locked; 0 if there is none, or it cannot be told. It serves where
// nobody says to own the queue.
func Holder(dir string) int {
	current, err := readCurrent(dir)
	if err != nil {
		return 0
	}
	return host.Holder(filepath.Join(dir, current))
}

// readOwner returns nil when nobody can be named.
func readOwner(dir string) *Owner {
	s, err := readSeat(filepath.Join(dir, OwnerFile))
	if err != nil {
		return nil
	}
	return s.owner
}

// Announce tells those who read owner.json where else this process can be
// reached: HOST:PORT for gRPC and for HTTP, "" where it cannot.
func (q *Queue) Announce(grpc, http string) error {
	err := q.lease.publish(func(o *Owner) { o.GRPC, o.HTTP = grpc, http })
	if err != nil {
		return fmt.Errorf("write %s: %w", OwnerFile, err)
	}
	return nil
}
