package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/mounts"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskid"
)

// Queue is an open queue. Its methods may be called by any number of goroutines.
type Queue struct {
	opts    Options
	db      *bolt.DB
	path    string   // of the database
	file    *os.File // bbolt's, which closes it
	known   bool     // there was a database before this opening
	unnamed string   // where a copy is that is no database yet; see takeOver
	id      string
	fence   uint64
	mount   mounts.Mount // what the directory is on; zero = nobody knows
	lease   *lease       // nil = this process only reads
	apart   bool         // it is looked at by itself: nobody writes it
	careful bool         // it is looked after: nobody is followed with a copy for that
	// listed says that the list index is true. It is not where an older release
	// had the queue last, and this process only reads.
	listed bool

	fate    fate
	meta    metaPages
	lastTx  atomic.Int64 // the last transaction that was committed here
	ids     taskid.Maker
	mem     memory
	damage  damages
	log     tail
	writer  writer
	trouble trouble
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
	q := &Queue{opts: opts.withDefaults(), changed: make(chan struct{}, 1), fate: fate{damaged: make(chan struct{})}}
	if err := q.approach(ctx); err != nil {
		return nil, err
	}
	if err := q.openDatabase(ctx); err != nil {
		q.lease.release()
		return nil, err
	}
	if err := q.start(); err != nil {
		return nil, errors.Join(err, q.dropCopy(), q.letGo(q.closeDatabase))
	}
	return q, nil
}

// start brings the database up to date, reads what is kept in memory, and
// begins to accept work.
func (q *Queue) start() error {
	if q.opts.ReadOnly {
		return q.startReading()
	}
	q.lease.database.Store(q.file)
	now := task.At(q.opts.Now())
	err := q.update(func(tx *bolt.Tx) error {
		fresh, err := q.checkVersion(tx)
		if err != nil {
			return err
		}
		if fresh {
			if err := create(tx, now); err != nil {
				return err
			}
		}
		q.id = queueID(tx)
		if q.fence, err = nextFence(tx, q.lease.before); err != nil {
			return err
		}
		if err := q.openLists(tx); err != nil {
			return fmt.Errorf("index the tasks for listings: %w", err)
		}
		tuneFreelist(tx, false)
		return nil
	})
	if err != nil {
		return q.startFailed(err)
	}
	failpoint.Here("takeover/fenced")
	if err := q.putInUse(); err != nil {
		return q.commitFailed(err)
	}
	failpoint.Here("takeover/moved")
	if err := q.lease.publish(func(o *Owner) { o.Fence = q.fence }); err != nil {
		return q.commitFailed(err)
	}
	if err := q.load(); err != nil {
		return err
	}
	if err := q.storeRecounted(); err != nil {
		return q.commitFailed(err)
	}
	q.writer.start(q.commit, q.idle)
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
	err := q.view(func(tx *bolt.Tx) error {
		fresh, err := q.checkVersion(tx)
		if err == nil && fresh {
			err = task.Errorf(task.CodeNotFound, "there is no queue in %s yet", q.opts.Dir)
		}
		if err == nil {
			q.id, q.fence = queueID(tx), metaNumber(tx.Bucket(bucketMeta), metaFence)
			q.listed = listsKept(tx)
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
			if q.Err() == nil { // else it has been told
				q.closed = q.update(func(tx *bolt.Tx) error {
					tuneFreelist(tx, true) // so that the next opening need not look for free pages
					return nil
				})
			}
		}
		q.log.close()
		q.closed = errors.Join(q.closed, q.letGo(q.closeDatabase)) // whoever comes next finds all that was written
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
