package queue

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// What happens to the file while it is open (somebody cuts it short or writes into
// it, the disk loses a page) nobody can find out beforehand. bbolt then panics, or
// the kernel refuses the access to the map (SIGBUS). Every transaction runs within
// guard, which makes an error of that, and lets nobody near the file again: what
// bbolt holds in memory is not to be trusted any more, nor are its locks, which the
// panic may have left locked.

// ErrDamagedFile is what errors.Is finds when the database file itself is damaged,
// so that nothing can be done with the queue any more. It is not task.ErrDamaged,
// which is about the records of one task.
var ErrDamagedFile = errors.New("the database file is damaged")

// DamagedFileError says what is wrong with which file.
type DamagedFileError struct{ Path, Reason string }

// Error names the file.
func (e *DamagedFileError) Error() string {
	return fmt.Sprintf("database %s is damaged: %s", e.Path, e.Reason)
}

// Is makes errors.Is(err, ErrDamagedFile) true.
func (e *DamagedFileError) Is(target error) bool { return target == ErrDamagedFile }

// fate is what has become of the database file.
type fate struct {
	mu      sync.Mutex
	damaged chan struct{} // closed with the first damage, or when it cannot be read
	err     error         // of that; set before damaged is closed
}

// Damage returns a channel that is closed when the database file turns out to be
// damaged, or cannot be read. From then on every call returns Err.
func (q *Queue) Damage() <-chan struct{} { return q.fate.damaged }

// Err returns nil as long as the queue can be used. Else the error matches
// ErrDamagedFile, ErrUnreadableFile or ErrDeposed, and says what to do.
func (q *Queue) Err() error {
	if err := q.fate.Err(); err != nil {
		return err
	}
	return q.lease.err()
}

func (f *fate) Err() error {
	select {
	case <-f.damaged:
		return f.err
	default:
		return nil
	}
}

// fail notes that the file is damaged. The first reason counts: what comes after it
// may follow from it.
func (q *Queue) fail(reason string) error {
	return q.end(task.Errorf(task.CodeInternal,
		"%w. Nothing is read or written any more. Keep a copy of %s; then dspy-agent queue repair saves what it still holds (queue verify says what that is); or put that folder back from a backup, or move it out of the way to begin anew with an empty queue, and start again",
		&DamagedFileError{Path: q.path, Reason: reason}, q.opts.Dir))
}

// end notes that nothing can be done with the file any more, and returns why: what was
// noted first.
func (q *Queue) end(err error) error {
	q.fate.mu.Lock()
	defer q.fate.mu.Unlock()
	if err := q.fate.Err(); err != nil {
		return err
	}
	q.fate.err = err
	close(q.fate.damaged)
	return err
}

// guard runs what reads the file.
func (q *Queue) guard(use func() error) error {
	if err := q.Err(); err != nil {
		return err
	}
	return q.shield(use)
}

// shield is guard for one who has been deposed, too.
func (q *Queue) shield(use func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			if err = q.damageIn(p); err == nil {
				panic(p)
			}
		}
	}()
	return use()
}

// damageIn tells damage of the file from mistakes of the program, for which it
// returns nil: those have to be seen as what they are. It is for the function that
// has recovered, while the stack is still there.
//
// Of the panics within bbolt all count as damage. Its code is what decodes pages,
// and its complaints have no types to tell them apart; what it would say of a
// program that uses it wrongly would show in any test.
func (q *Queue) damageIn(p any) error {
	var reason string
	switch p := p.(type) {
	case fileError:
		reason = p.Error()
	case interface{ Addr() uintptr }: // an access that the kernel refused; what follows a nil pointer has no address
		if why := whyRefused(q.file, q.opts.Dir); why != nil {
			err := q.failUnreadable(why)
			q.opts.Logger.Error("the database file cannot be read; it is left alone from here on", "path", q.path, "error", err, "in", panickedIn())
			return err
		}
		reason = "a part of it cannot be read: it has become shorter"
	default:
		if !strings.HasPrefix(panickedIn(), boltPackage) {
			return nil
		}
		reason = fmt.Sprintf("its pages do not make sense: %v", p)
	}
	q.opts.Logger.Error("the database file is damaged; it is left alone from here on", "path", q.path, "reason", reason, "in", panickedIn())
	return q.fail(reason)
}

const boltPackage = "go.etcd.io/bbolt"

// panickedIn returns the function that panicked, without those of the runtime that
// noticed it.
func panickedIn() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	panicking := false
	for {
		f, more := frames.Next()
		switch {
		case f.Function == "runtime.gopanic":
			panicking = true
		case panicking && !strings.HasPrefix(f.Function, "runtime."):
			return f.Function
		case !more:
			return ""
		}
	}
}

// begin begins a transaction.
func (q *Queue) begin(writable bool) (*bolt.Tx, error) {
	// bbolt reads its meta pages while it has a lock that a panic would leave locked,
	// and others would wait for it. So they are looked at before. And from one that is
	// not whole it would go back to the other, to a state before commits that people
	// were told of.
	last := uint64(q.lastTx.Load())
	_, _ = q.meta.newest(last) // only that it panics counts
	tx, err := q.db.Begin(writable)
	if err != nil || !writable {
		return tx, err
	}
	if m, open := q.meta.newest(last); open {
		if err := checkFreelist(q.file, m); err != nil {
			_ = tx.Rollback() // nothing was done
			if bad, ok := errors.AsType[fileError](err); ok {
				panic(bad)
			}
			return nil, err
		}
	}
	return tx, nil
}

// commitTx commits, if the queue is ours, and says so only if it still is: what an
// owner answers that was frozen meanwhile may be missing in its successor's copy.
func (q *Queue) commitTx(tx *bolt.Tx) error {
	if err := q.lease.confirm(); err != nil {
		_ = tx.Rollback() // nothing was done
		return err
	}
	id := tx.ID()
	if err := tx.Commit(); err != nil {
		return err
	}
	q.lastTx.Store(int64(id))
	return q.lease.confirm()
}

// view runs a function in a read transaction. Nothing that the function gets from
// the database may outlive it.
func (q *Queue) view(read func(*bolt.Tx) error) error {
	return q.guard(func() error {
		tx, err := q.begin(false)
		if err != nil {
			return beginFailed(err)
		}
		// A writer that has to map the file anew waits for every reader.
		defer func() { _ = tx.Rollback() }() // it has nothing to undo
		return read(tx)
	})
}

// update runs a function in a transaction that writes.
//
// It is not bbolt's Update, which after a panic reads the list of free pages once
// more: that can panic itself, and in a goroutine where nobody can catch it.
func (q *Queue) update(write func(*bolt.Tx) error) error {
	return q.guard(func() error {
		tx, err := q.begin(true)
		if err != nil {
			return beginFailed(err)
		}
		defer func() { _ = tx.Rollback() }() // it says that the transaction is over when it has been committed
		if err := write(tx); err != nil {
			return err
		}
		return q.commitTx(tx)
	})
}

// drop deletes a key that is known to be there. Where a look-up does not lead to it,
// a page has its keys out of order, and what the key asks for would be done for ever.
func (b *batch) drop(bucket, key []byte) error {
	bk := b.bucket(bucket)
	if k, _ := bk.Cursor().Seek(key); !bytes.Equal(k, key) {
		panic(fileError(fmt.Sprintf("key %x of bucket %s cannot be found where it should be", key, bucket)))
	}
	return bk.Delete(key)
}
