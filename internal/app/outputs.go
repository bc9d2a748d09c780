package app

import (
	"errors"
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
		return nil, task.Errorf(task.CodeNotFound, "task %s has no output of attempt %d: it has not begun, or its output was removed", t.Spec.ID, attempt)
	case err != nil:
		return nil, task.Errorf(task.CodeInternal, "the output of task %s cannot be read: %w", t.Spec.ID, err)
	}
	return output{log}, nil
}
