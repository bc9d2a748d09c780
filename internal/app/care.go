package app

import (
	"context"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// keeper shows to the API how the queue is looked after while it is in use.
type keeper struct {
	engine *engine.Engine
	queue  *queue.Queue
}

var _ api.Keeper = keeper{}

// Release looks the task up and asks the engine.
func (k keeper) Release(ctx context.Context, id, by string) (task.Task, bool, error) {
	t, err := k.queue.Lookup(id)
	if err != nil {
		return task.Task{}, false, err
	}
	return k.engine.Release(ctx, t, by)
}

// CopyTo copies the database.
func (k keeper) CopyTo(ctx context.Context, write func(int64, []byte) error) (size int64, queueID string, err error) {
	done, err := k.queue.CopyTo(ctx, write, nil)
	return done.Bytes, done.QueueID, err
}

// Care is how a queue is looked after that nobody owns, for the commands that do it.
// Each of its calls holds the lock of the database and gives a BusyError, which matches
// ErrQueueInUse, where somebody else does.
type Care struct {
	Dir      string
	Progress func(step string, done, total int64) // may be nil
	// LockTimeout and Watches are as in UnattendedOptions.
	LockTimeout time.Duration
	Watches     func(o *Owner, left time.Duration)
}

// What errors.Is finds in the errors of a Care.
var (
	ErrQueueInUse    = queue.ErrLocked
	ErrQueueThere    = queue.ErrNotEmpty
	ErrDamagedBackup = queue.ErrDamagedBackup
)

// FoundIndex is the kind of finding that a repair makes anew.
const FoundIndex = string(queue.FoundIndex)

func (c Care) options() queue.Options {
	return queue.Options{Dir: c.Dir, Role: queue.RoleCommand, Program: ownProgram, LockTimeout: c.LockTimeout, OnWatch: c.Watches}
}

// Verify looks at all of the database.
func (c Care) Verify(ctx context.Context) (queue.Verified, error) {
	done, err := queue.Verify(ctx, c.options(), c.Progress)
	return done, busy(err)
}

// VerifyFile looks at all of a database that is nobody's.
func (c Care) VerifyFile(ctx context.Context, path string) (queue.Verified, error) {
	return queue.VerifyFile(ctx, path, c.options(), c.Progress)
}

// Repair makes a new database of what a damaged one still holds.
func (c Care) Repair(ctx context.Context) (queue.Repaired, error) {
	done, err := queue.Repair(ctx, c.options(), c.Progress)
	return done, busy(err)
}

// Backup writes a copy of the database into a file, and looks at all of it.
func (c Care) Backup(ctx context.Context, path string) (queue.Copied, queue.Kept, error) {
	done, kept, err := queue.Backup(ctx, c.options(), path, c.Progress)
	return done, kept, busy(err)
}

// BackupFile begins the file of a backup that comes from a daemon.
func (c Care) BackupFile(path string) (*queue.File, error) { return queue.NewFile(path) }

// Restore makes a queue of a backup.
func (c Care) Restore(ctx context.Context, path string, replace, damaged bool) (queue.Repaired, error) {
	done, err := queue.Restore(ctx, c.options(), path, queue.RestoreOptions{Replace: replace, Damaged: damaged}, c.Progress)
	return done, busy(err)
}

// Compact writes the database anew without what nobody uses of it.
func (c Care) Compact(ctx context.Context) (queue.Compacted, error) {
	done, err := queue.Compact(ctx, c.options(), c.Progress)
	return done, busy(err)
}
