package queue

import (
	"errors"
	"fmt"
	"syscall"

	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ErrClosed is returned by calls on a queue that was closed.
var ErrClosed = errors.New("the queue is closed")

// ErrReadOnly is returned by calls that would change a queue opened with
// Options.ReadOnly.
var ErrReadOnly = errors.New("the queue is open for reading only")

// ErrFull is what errors.Is finds when Options.MaxWaiting tasks wait already.
var ErrFull = errors.New("the queue is full")

func errFull(limit int) error {
	return task.Errorf(task.CodeExhausted, "%w: %d tasks wait, and that is its limit; nothing was stored; submit again when some have started", ErrFull, limit)
}

// ErrNotFound is what errors.Is finds when no task has the id or the Seq.
var ErrNotFound = errors.New("no such task")

// RemovedError is returned for a task of which only its tombstone is left.
type RemovedError struct{ Final task.Final }

// Error says how the task ended.
func (e *RemovedError) Error() string {
	return fmt.Sprintf("task %s ended %s at %s; its details were removed since",
		e.Final.ID, e.Final.State, e.Final.EndedAt.Time().Format("2006-01-02 15:04:05"))
}

// Is makes errors.Is(err, task.ErrRemoved) true.
func (e *RemovedError) Is(target error) bool { return target == task.ErrRemoved }

// errRemoved is for a change of a task that was removed.
func errRemoved(seq task.Seq) error {
	return &task.Error{
		Code: task.CodeNotFound, Message: fmt.Sprintf("task number %d has ended and was removed since", seq),
		Err: errors.Join(ErrNotFound, task.ErrRemoved),
	}
}

// ErrTruncated is what errors.Is finds in a TruncatedError.
var ErrTruncated = errors.New("event records were dropped")

// TruncatedError is returned for event records that retention has dropped.
type TruncatedError struct{ First uint64 } // the oldest record there is

// Error names the oldest record.
func (e *TruncatedError) Error() string {
	return fmt.Sprintf("event records before %d were dropped by retention", e.First)
}

// Is makes errors.Is(err, ErrTruncated) true.
func (e *TruncatedError) Is(target error) bool { return target == ErrTruncated }

func errClosed() error {
	return task.Errorf(task.CodeUnavailable, "the queue is being closed; try again: %w", ErrClosed)
}

// commitFailed turns the failure of a commit into a sentence for whoever waits
// for it.
func (q *Queue) commitFailed(err error) error {
	if errors.Is(err, ErrDamagedFile) || errors.Is(err, ErrUnreadableFile) || errors.Is(err, ErrDeposed) || errors.Is(err, ErrUnlinked) || errors.Is(err, ErrClosed) {
		return err // it has been put into words
	}
	full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	if !full && !hasErrno(err) {
		// bbolt drops the cause of some failures to grow the file; the file system
		// itself knows whether it is full.
		full = diskFull(q.opts.Dir)
	}
	switch {
	case full:
		return task.Errorf(task.CodeExhausted, "nothing was stored in queue directory %s: its disk is full; free some space and try again: %w", q.opts.Dir, err)
	case errors.Is(err, syscall.EROFS):
		return task.Errorf(task.CodeExhausted, "nothing was stored in queue directory %s: its file system is mounted read-only; have it mounted for writing, or use another workspace: %w", q.opts.Dir, err)
	default:
		return task.Errorf(task.CodeUnavailable, "could not store in queue directory %s; look at the disk and the kernel's log: %w", q.opts.Dir, err)
	}
}

// beginFailed is for a transaction that could not begin.
func beginFailed(err error) error {
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return errClosed()
	}
	return err
}

func hasErrno(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno)
}

// diskFull says whether the file system of dir has less room than one growth of
// the database needs.
func diskFull(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Bavail*uint64(st.Bsize) < 1<<20
}
