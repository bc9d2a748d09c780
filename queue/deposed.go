package queue

import (
	"errors"
	"fmt"
	"sync"

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

// deposition is the end of a lease that was taken away.
type deposition struct {
	mu   sync.Mutex
	done chan struct{} // closed with it
	err  error         // set before done is closed
}

// Deposed returns a channel that is closed when another process has taken over the
// queue. From then on every call returns Err.
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
	d := &l.deposition
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.Err(); err != nil {
		return err
	}
	d.err = task.Errorf(task.CodeUnavailable, "%w; this process changes nothing in it any more. Running tasks go on", &DeposedError{Dir: l.dir, By: by})
	l.logger.Error("the queue was taken over by another process; it is left alone from here on", "dir", l.dir, "by", by)
	close(d.done)
	return d.err
}
