package queue

import (
	"errors"
	"fmt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ErrInconsistent is what errors.Is finds in what Check returns when records and
// indexes disagree.
var ErrInconsistent = errors.New("the queue's records and indexes disagree")

// inconsistency is one such disagreement.
type inconsistency struct {
	seq  task.Seq // the task that it is about; 0 = none, or more than one
	text string
}

// Error names the task.
func (e *inconsistency) Error() string {
	if e.seq == 0 {
		return fmt.Sprintf("%s: %s", ErrInconsistent, e.text)
	}
	return fmt.Sprintf("%s: task %d %s", ErrInconsistent, e.seq, e.text)
}

// pagesError says that the pages of the database disagree.
type pagesError struct{ cause error }

func (e *pagesError) reason() string { return fmt.Sprint("database pages: ", e.cause) }

func (e *pagesError) Error() string { return fmt.Sprintf("%s: %s", ErrInconsistent, e.reason()) }

func (e *pagesError) Unwrap() error { return e.cause }

// Is makes errors.Is(err, ErrInconsistent) true.
func (e *pagesError) Is(target error) bool { return target == ErrInconsistent }

// Is makes errors.Is(err, ErrInconsistent) true.
func (e *inconsistency) Is(target error) bool { return target == ErrInconsistent }
