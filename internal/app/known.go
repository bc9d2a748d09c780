package app

import (
	"errors"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// known says whether the queue has a task, or may have it some day. The files of
// attempts of others are litter. What has a number that was not given out yet is
// not: the queue may be a backup, older than the files.
func (a *App) known(ref task.Ref) (bool, error) {
	_, err := a.queue.Get(ref.Seq)
	if !errors.Is(err, queue.ErrNotFound) {
		return true, nil // also what cannot be read is there
	}
	newest, _, err := a.queue.List(task.Filter{Limit: 1})
	if err != nil {
		return true, err
	}
	return len(newest) == 0 || ref.Seq > newest[0].Seq, nil
}
