package queue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Queue is an open queue. Its methods may be called by any number of goroutines.
type Queue struct {
	opts  Options
	db    *bolt.DB
	path  string // of the database
	id    string
	fence uint64

	ids     idMaker
	mem     memory
	log     tail
	writer  writer
	changed chan struct{}

	closing sync.Once
	closed  error
}

// Open opens the queue in a directory, and makes it if there is none. It waits
// for another process that has it open, for as long as Options.LockTimeout says,
// and then returns a LockedError.
func Open(ctx context.Context, opts Options) (*Queue, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	q := &Queue{opts: opts.withDefaults(), changed: make(chan struct{}, 1)}
	if err := q.openDatabase(); err != nil {
		return nil, err
	}
	if err := q.start(); err != nil {
		return nil, errors.Join(err, q.db.Close())
	}
	return q, nil
}

// openDatabase opens and locks the database that CURRENT names.
func (q *Queue) openDatabase() error {
	if !q.opts.ReadOnly {
		if err := os.MkdirAll(q.opts.Dir, 0o700); err != nil {
			return task.Errorf(task.CodeUnavailable, "cannot make queue directory %s: %w", q.opts.Dir, err)
		}
	}
	for {
		name, err := readCurrent(q.opts.Dir)
		if err != nil {
			return err
		}
		q.path = filepath.Join(q.opts.Dir, name)
		if q.db, err = bolt.Open(q.path, 0o600, q.boltOptions()); err != nil {
			return q.openFailed(err)
		}
		// While we waited for the lock its holder may have been replaced by an owner
		// with a new generation.
		again, err := readCurrent(q.opts.Dir)
		if err != nil {
			return errors.Join(err, q.db.Close())
		}
		if again == name {
			return nil
		}
		if err := q.db.Close(); err != nil {
			return fmt.Errorf("close %s: %w", q.path, err)
		}
	}
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

func (q *Queue) openFailed(err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		locked := &LockedError{Dir: q.opts.Dir, Owner: readOwner(q.opts.Dir)}
		return task.Errorf(task.CodeUnavailable, "%w; stop that process, or talk to it", locked)
	case errors.Is(err, fs.ErrNotExist):
		return task.Errorf(task.CodeNotFound, "there is no queue in %s: %w", q.opts.Dir, err)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum):
		return task.Errorf(task.CodeInternal, "%s is damaged, or is not a queue database; restore it from a backup: %w", q.path, err)
	default:
		return task.Errorf(task.CodeUnavailable, "cannot open the queue in %s: %w", q.opts.Dir, err)
	}
}

// start brings the database up to date, reads what is kept in memory, and
// begins to accept work.
func (q *Queue) start() error {
	if q.opts.ReadOnly {
		return q.startReading()
	}
	now := task.At(q.opts.Now())
	err := q.db.Update(func(tx *bolt.Tx) error {
		fresh, err := checkVersion(tx, q.path)
		if err != nil {
			return err
		}
		if fresh {
			if err := create(tx, now); err != nil {
				return err
			}
		}
		q.id = queueID(tx)
		q.fence, err = nextFence(tx)
		tuneFreelist(tx, false)
		return err
	})
	if err != nil {
		return q.startFailed(err)
	}
	if err := writeCurrent(q.opts.Dir, filepath.Base(q.path)); err != nil {
		return q.commitFailed(err)
	}
	owner := thisProcess(q.fence, q.opts.Now())
	owner.Socket = q.opts.Socket
	if err := writeOwner(q.opts.Dir, owner); err != nil {
		return q.commitFailed(err)
	}
	if err := q.load(); err != nil {
		return err
	}
	q.writer.start(q.commit)
	return nil
}

// startFailed leaves errors that already speak to the user as they are.
func (q *Queue) startFailed(err error) error {
	if _, ok := errors.AsType[*task.Error](err); ok {
		return err
	}
	return q.commitFailed(err)
}

func (q *Queue) startReading() error {
	err := q.db.View(func(tx *bolt.Tx) error {
		fresh, err := checkVersion(tx, q.path)
		if err == nil && fresh {
			err = task.Errorf(task.CodeNotFound, "there is no queue in %s yet", q.opts.Dir)
		}
		if err == nil {
			q.id, q.fence = queueID(tx), metaNumber(tx.Bucket(bucketMeta), metaFence)
		}
		return err
	})
	if err != nil {
		return err
	}
	return q.load()
}

// Close waits for the calls that are being committed, refuses the others, and
// lets go of the queue. Calling it again returns what the first call returned.
func (q *Queue) Close() error {
	q.closing.Do(func() {
		if !q.opts.ReadOnly {
			q.writer.stop()
			q.closed = q.db.Update(func(tx *bolt.Tx) error {
				tuneFreelist(tx, true) // so that the next opening need not look for free pages
				return nil
			})
			removeOwner(q.opts.Dir)
		}
		q.log.close()
		q.closed = errors.Join(q.closed, q.db.Close())
	})
	return q.closed
}

// ID returns the queue's random id: 16 hexadecimal digits, made with the queue.
// Everything that is done outside on behalf of the queue carries it.
func (q *Queue) ID() string { return q.id }

// Fence returns the fencing number of this opening. It grows with every one.
func (q *Queue) Fence() uint64 { return q.fence }

// Changed returns a channel that gets a value after something became ready, was
// asked to be cancelled, or ended. Values that nobody has taken yet merge.
func (q *Queue) Changed() <-chan struct{} { return q.changed }

func (q *Queue) signal() {
	select {
	case q.changed <- struct{}{}:
	default: // one is waiting to be taken already
	}
}
