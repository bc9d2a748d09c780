package queue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// openDatabase opens and locks the database that CURRENT names.
func (q *Queue) openDatabase(ctx context.Context) error {
	if !q.opts.ReadOnly {
		if err := makeFolder(q.opts.Dir); err != nil {
			return err
		}
	}
	for moved := 0; ; moved++ {
		name, err := readCurrent(q.opts.Dir)
		if err != nil {
			return err
		}
		q.path = filepath.Join(q.opts.Dir, name)
		err = q.openBolt(ctx)
		switch {
		case errors.Is(err, errMoved) && moved < maxMoved:
			continue
		case q.careful && errors.Is(err, errCopy):
			return q.openFailed(q.locked()) // that one may still write into it
		case q.mustTakeOver(err):
			return q.openFailed(q.takeOver(ctx))
		case err != nil:
			if q.movedOn(name) {
				continue // it was replaced, and removed, while we looked for it
			}
			return q.openFailed(err)
		}
		// While we waited for the lock its holder may have been replaced by an owner
		// with a new generation.
		again, err := readCurrent(q.opts.Dir)
		if err != nil {
			return errors.Join(err, q.closeDatabase())
		}
		if again == name {
			if !q.opts.ReadOnly {
				q.removeLeftovers()
			}
			return nil
		}
		if err := q.closeDatabase(); err != nil {
			return fmt.Errorf("close %s: %w", q.path, err)
		}
	}
}

// maxMoved is how often the database may turn out to be another one: far more often than
// that happens on a file system that can be relied on.
const maxMoved = 100

func (q *Queue) movedOn(name string) bool {
	again, err := readCurrent(q.opts.Dir)
	return err == nil && again != name
}

func (q *Queue) openBolt(ctx context.Context) error {
	err := q.guard(func() (err error) {
		opts := q.boltOptions()
		opts.OpenFile = func(path string, flag int, mode os.FileMode) (*os.File, error) {
			return q.openFile(ctx, path, flag, mode)
		}
		if q.db, err = bolt.Open(q.path, 0o600, opts); err != nil {
			return err
		}
		if err := q.meta.open(q.file, q.db.Info().PageSize); err != nil {
			return errors.Join(err, q.db.Close())
		}
		return nil
	})
	if err != nil && q.file != nil {
		_ = q.abandon() // bbolt has done so already, unless it panicked
	}
	return err
}

func (q *Queue) boltOptions() *bolt.Options {
	return &bolt.Options{
		Timeout:  q.opts.LockTimeout,
		ReadOnly: q.opts.ReadOnly,
		// Growing the map means waiting until no read transaction is left, so it
		// begins large enough for most queues. Address space costs nothing.
		InitialMmapSize: 256 << 20,
		FreelistType:    bolt.FreelistMapType,
		// Opening must not write: not before the schema version is known to be ours,
		// and not only to write out the list of free pages. See tuneFreelist.
		NoFreelistSync: true,
	}
}

// openFile opens the file for bbolt, which would fill one that is empty and believe
// any other. It locks it as bbolt is about to, so that nobody changes it while it is
// looked at; the lock is the file's, and bbolt's own attempt finds that it has it.
func (q *Queue) openFile(ctx context.Context, path string, flag int, mode os.FileMode) (*os.File, error) {
	// CURRENT is written once the database is made.
	if _, err := os.Lstat(filepath.Join(q.opts.Dir, currentFile)); err == nil {
		q.known = true
		flag &^= os.O_CREATE // one that is gone is not made anew
	}
	f, err := os.OpenFile(path, flag, mode)
	if err != nil {
		return nil, err
	}
	q.file = f
	if err = q.lock(ctx, f); err == nil {
		err = q.acquire(ctx)
	}
	if err == nil && !q.apart && !isNamed(f, path) {
		err = errMoved // a restoration that was refused had only taken its place, and has removed it
	}
	if err == nil {
		err = q.examine(f)
	}
	if err != nil {
		q.lease.release() // under the lock, without which it may be another's name that goes
		q.lease = nil
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lockRetry is how often is looked whether the lock is free.
const lockRetry = 25 * time.Millisecond

func (q *Queue) lock(ctx context.Context, f *os.File) error {
	how := unix.LOCK_EX
	if q.opts.ReadOnly {
		how = unix.LOCK_SH
	}
	ctx, cancel := context.WithTimeoutCause(ctx, q.opts.LockTimeout, berrors.ErrTimeout)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-time.After(lockRetry):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// examine finds out whether there was a database before, and whether it is whole.
func (q *Queue) examine(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() > 0 {
		return inspect(f, q.opts.wholeBytes)
	}
	switch {
	case q.known:
		return fileError("it is empty, and there was a queue in it; something has cut it down to nothing")
	case q.opts.ReadOnly && !q.apart:
		return noQueue(q.opts.Dir) // the place of one that was to be restored
	}
	return nil
}

func (q *Queue) openFailed(err error) error {
	if bad, ok := errors.AsType[fileError](err); ok {
		return q.fail(string(bad))
	}
	if locked, ok := errors.AsType[*LockedError](err); ok {
		return q.advise(locked)
	}
	if _, ok := errors.AsType[*task.Error](err); ok {
		return err // it has been put into words
	}
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, berrors.ErrTimeout):
		return q.advise(q.locked())
	case noLocks(err):
		return q.lockless(err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EROFS):
		return q.commitFailed(err)
	case errors.Is(err, fs.ErrNotExist):
		return task.Errorf(task.CodeNotFound, "there is no queue in %s: %w", q.opts.Dir, err)
	}
	if reason := headless(err); reason != "" {
		return q.fail(reason)
	}
	return task.Errorf(task.CodeUnavailable, "cannot open the queue in %s: %w", q.opts.Dir, err)
}

// headless says what is wrong with a file of which bbolt can read neither of the two pages
// that it begins with; "" = err is about something else.
func headless(err error) string {
	switch {
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum):
		return "neither of the two pages that it begins with is whole, or it is not a queue database"
	case errors.Is(err, berrors.ErrVersionMismatch):
		return "it is of another format, or the two pages that it begins with are damaged"
	default:
		return ""
	}
}

// closeDatabase lets go of the file.
func (q *Queue) closeDatabase() error {
	q.meta.close()
	if q.fate.Err() != nil {
		// What panicked may have left bbolt's locks locked, for which its Close would wait.
		return q.abandon()
	}
	return q.shield(q.db.Close)
}

// abandon lets go of the file without bbolt. The map stays until the process ends, as
// others may be reading it, and keeps the lock unless that is let go of by itself.
func (q *Queue) abandon() error {
	if err := unix.Flock(int(q.file.Fd()), unix.LOCK_UN); err != nil {
		return errors.Join(fmt.Errorf("unlock %s: %w", q.path, err), q.file.Close())
	}
	return q.file.Close()
}
