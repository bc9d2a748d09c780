package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ownerFile is where the process that has the queue open says who it is.
const ownerFile = "owner.json"

// owner is what it says.
type owner struct {
	Host       string    `json:"host"`
	BootID     string    `json:"boot_id"`
	PID        int       `json:"pid"`
	StartTicks uint64    `json:"start_ticks"`
	StartedAt  time.Time `json:"started_at"`
	Socket     string    `json:"socket"`
	GRPC       string    `json:"grpc"`
	HTTP       string    `json:"http"`
}

// errOwnerDamaged is returned when the file is there and does not tell who owns the
// queue. The daemon replaces it in one step, so it was written by somebody else, or
// the disk was full or failed.
var errOwnerDamaged = errors.New("the file is damaged")

// readOwner returns what the file says; nil where there is none.
func readOwner(queueDir string) (*owner, error) {
	path := filepath.Join(queueDir, ownerFile)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil //nolint:nilnil // nobody is no error
	case errors.Is(err, fs.ErrPermission): // it and its folder are for the owner's eyes alone
		return nil, fmt.Errorf("the queue in %s is closed to you: %w", queueDir, fs.ErrPermission)
	case err != nil:
		return nil, fmt.Errorf("%s cannot be read: %s: %w", path, rootCause(err), errOwnerDamaged)
	}
	var o owner
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, fmt.Errorf("%s does not tell who owns the queue (%w): %w", path, err, errOwnerDamaged)
	}
	if o.PID <= 0 || o.BootID == "" {
		return nil, fmt.Errorf("%s does not tell who owns the queue (it has no pid or boot_id): %w", path, errOwnerDamaged)
	}
	return &o, nil
}

// forbidden adds what to do about a folder that this user may not use.
func forbidden(err error) error {
	return task.Errorf(task.CodeConflict, "%w; choose a folder of your own with --workspace, or act as the owner of this one (sudo -u)", err)
}

// liveOwner returns the owner of the queue if it runs on this host, else nil.
func liveOwner(queueDir string) *owner {
	o, err := readOwner(queueDir)
	if err != nil || o == nil {
		return nil
	}
	p := host.Process{PID: o.PID, Start: o.StartTicks, Boot: o.BootID}
	if !p.Runs() {
		return nil // of another host, of before the last boot, or its pid is somebody else's now
	}
	return o
}

// daemonPID returns the pid of the daemon that has the queue; 0 if none has. A command
// that has it for its one call is let finish: it is no daemon, and leaves by itself.
func (s *session) daemonPID(ctx context.Context, queueDir string) int {
	for end := s.now().Add(holderPatience); ; {
		if o := liveOwner(queueDir); o != nil && o.Socket != "" {
			return o.PID
		}
		if lockHolder(queueDir) == 0 || s.now().After(end) || !pause(ctx, lockLook) {
			return 0
		}
	}
}

// lockHolder returns the pid of the process on this host that has the queue's
// database open and locked; 0 if there is none, or it cannot be told. It serves
// where the file of the owner is of no use.
func lockHolder(queueDir string) int {
	current, err := os.ReadFile(filepath.Join(queueDir, "CURRENT"))
	if err != nil {
		return 0
	}
	db := filepath.Join(queueDir, filepath.Base(strings.TrimSpace(string(current))))
	return host.Holder(db)
}
