package queue

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ErrLocked is what errors.Is finds in a LockedError.
var ErrLocked = errors.New("the queue is in use by another process")

// LockedError is returned by Open when another process has the queue open.
type LockedError struct {
	Dir   string
	Owner *Owner // nil when it did not say who it is
	PID   int    // of one that did not, as far as the kernel tells; 0 = it does not
	Alive bool   // a sign of life of the owner was seen just now
}

// Error names the holder.
func (e *LockedError) Error() string {
	if e.Owner == nil && e.PID != 0 {
		return fmt.Sprintf("queue directory %s is in use by pid %d", e.Dir, e.PID)
	}
	if e.Owner == nil {
		return fmt.Sprintf("queue directory %s is in use by another process", e.Dir)
	}
	text := fmt.Sprintf("queue directory %s is in use by %s since %s", e.Dir, e.Owner, e.Owner.StartedAt.Local().Format("2006-01-02 15:04:05 MST"))
	if e.Alive {
		text += " and has just given a sign of life"
	}
	return text
}

// Is makes errors.Is(err, ErrLocked) true.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// locked is the error for a queue of which somebody else has the lock.
func (q *Queue) locked() *LockedError {
	locked := &LockedError{Dir: q.opts.Dir, Owner: readOwner(q.opts.Dir)}
	holder := host.Holder(q.path)
	if o := locked.Owner; o != nil && (holder != 0 && holder != o.PID || o.ended()) {
		locked.Owner = nil // whoever has it now has not said so yet, or only reads
	}
	if locked.Owner == nil {
		locked.PID = cmp.Or(holder, host.Sharer(q.path))
	}
	return locked
}

// advise adds to the name of the holder what can be done about it.
func (q *Queue) advise(locked *LockedError) error {
	o := locked.Owner
	id, err := host.This()
	switch {
	case o == nil || err != nil || o.BootID == id.Boot && o.PIDs == id.PIDs || o.BootID == id.Boot && o.PIDs == 0:
		return task.Errorf(task.CodeUnavailable, "%w", locked)
	case o.BootID == id.Boot:
		return task.Errorf(task.CodeUnavailable, "%w, in another container; stop it there, or work there", locked)
	case q.opts.ReadOnly, locked.Alive:
		return task.Errorf(task.CodeUnavailable, "%w; work on host %s", locked, o.Host)
	case q.mount.Local():
		return task.Errorf(task.CodeUnavailable,
			"%w: another machine, or this one before its disk was moved or its container was made anew with another machine id. If nothing there can have the queue open any more, --take-over begins with a copy of it: tasks that run there are not seen from here, and are not repeated",
			locked)
	default:
		return task.Errorf(task.CodeUnavailable,
			"%w, and whether it still runs cannot be seen from here; work on host %s, or stop it there. If that host is gone for good, --take-over begins with a copy of the queue here: tasks that run there are not seen from here, and are not repeated",
			locked, o.Host)
	}
}
