package queue

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ErrDeposed is what errors.Is finds when the queue has another owner by now.
var ErrDeposed = errors.New("the queue was taken over by another process")

// DeposedError says by whom.
type DeposedError struct {
	Dir string
	By  *Owner // nil when it cannot be named
}

// Error names the new owner.
func (e *DeposedError) Error() string {
	if e.By == nil {
		return fmt.Sprintf("the queue in %s was taken over by another process", e.Dir)
	}
	return fmt.Sprintf("the queue in %s was taken over by %s", e.Dir, e.By)
}

// Is makes errors.Is(err, ErrDeposed) true. What was being stored at that moment may be in
// the new owner's copy.
func (e *DeposedError) Is(target error) bool {
	return target == ErrDeposed || target == ErrOutcomeUnknown
}

// ErrUnlinked is what errors.Is finds when the queue's database was removed under its owner.
var ErrUnlinked = errors.New("the queue's database was removed")

// UnlinkedError says that the database was removed while its owner had it open: what is
// stored in it goes when the owner ends.
type UnlinkedError struct {
	Path string
}

// Error says what is left to do.
func (e *UnlinkedError) Error() string {
	return fmt.Sprintf("the database %s was removed while it was in use, and its tasks with it; begin anew, or put back a backup with queue restore", e.Path)
}

// Is makes errors.Is(err, ErrUnlinked) true, and that with ErrOutcomeUnknown: what was
// being stored at that moment is nowhere, unless somebody keeps a link to the file.
func (e *UnlinkedError) Is(target error) bool {
	return target == ErrUnlinked || target == ErrOutcomeUnknown
}

// deposition is the end of a lease that was taken away.
type deposition struct {
	mu   sync.Mutex
	done chan struct{} // closed with it
	err  error         // set before done is closed
}

// Deposed returns a channel that is closed when another process has taken over the
// queue, or somebody removed its database. From then on every call returns Err.
func (q *Queue) Deposed() <-chan struct{} {
	if q.lease == nil {
		return nil // who only reads has nothing to lose
	}
	return q.lease.deposition.done
}

func (d *deposition) Err() error {
	select {
	case <-d.done:
		return d.err
	default:
		return nil
	}
}

// depose notes that the lease is somebody else's.
func (l *lease) depose(by *Owner) error {
	return l.lose(&DeposedError{Dir: l.dir, By: by})
}

// lose ends the lease.
func (l *lease) lose(why error) error {
	d := &l.deposition
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.Err(); err != nil {
		return err
	}
	d.err = task.Errorf(task.CodeUnavailable, "%w; this process changes nothing in it any more. Running tasks go on", why)
	l.logger.Error("the queue is lost to this process, which leaves it alone from here on", "dir", l.dir, "error", why)
	close(d.done)
	return d.err
}

// stillThere makes sure that the database has a name. Without one it goes when we let go
// of it: people remove folders called "logs", and would be told for days that all is
// well. A file server keeps what is open under another name; there owner.json is missed.
func (l *lease) stillThere() error {
	f := l.database.Load()
	if f == nil {
		return nil // it is not open yet
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Nlink > 0 {
		return nil //nolint:nilerr // it was closed; and whether the disk can be read others find out
	}
	return l.lose(&UnlinkedError{Path: f.Name()})
}
