package app

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// outputs finds what tasks have printed.
type outputs struct{ layout taskfiles.Layout }

var _ api.Outputs = outputs{}

// output is a log with its streams named as on the wire.
type output struct{ *taskfiles.Log }

func (o output) Stream(offset int64) (name string, until int64, err error) {
	s, until, err := o.Log.Stream(offset)
	return s.String(), until, err
}

// Path names the file of an attempt.
func (o outputs) Path(t task.Task, attempt int) string {
	return o.layout.LogPath(task.Ref{Seq: t.Seq, Attempt: attempt})
}

// Open opens the file of an attempt.
func (o outputs) Open(t task.Task, attempt int) (api.Output, error) {
	log, err := taskfiles.OpenLog(o.Path(t, attempt))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, task.Errorf(task.CodeNotFound, "task %s has no output%s", t.Spec.ID, whyNone(t, attempt))
	case err != nil:
		return nil, task.Errorf(task.CodeInternal, "the output of task %s cannot be read: %w", t.Spec.ID, err)
	}
	return output{log}, nil
}

// whyNone says why an attempt that was placed has no file of output, as the rest of a
// sentence.
func whyNone(t task.Task, attempt int) string {
	switch over := attempt < t.Attempt() || t.State().Terminal(); {
	case t.Spec.Builtin != "":
		return ": it runs no program; dspy-agent result " + t.Spec.ID + " prints what came of it"
	case !over:
		return fmt.Sprintf(" of attempt %d yet: it has not begun", attempt)
	default:
		return fmt.Sprintf(" of attempt %d: it ended before it began, or its output was removed", attempt)
	}
}
