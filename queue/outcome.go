package queue

import (
	"errors"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ErrOutcomeUnknown is what errors.Is finds when a write failed in a way that leaves
// open whether it is stored. Who asked for it may ask again: a task is known again by
// its id and content, a step by its attempt.
var ErrOutcomeUnknown = task.ErrOutcomeUnknown

func (q *Queue) outcomeUnknown(err error) error {
	if errors.Is(err, ErrDamagedFile) || errors.Is(err, ErrUnreadableFile) {
		return err // nothing can be asked again
	}
	return &task.Error{
		Code: task.CodeUnavailable,
		Message: "writing to queue directory " + q.opts.Dir + " failed (" + err.Error() + "), and " + ErrOutcomeUnknown.Error() +
			"; look at the disk and the kernel's log, and do the same again: what is sent with the same id is stored once",
		Err: errors.Join(ErrOutcomeUnknown, err),
	}
}
