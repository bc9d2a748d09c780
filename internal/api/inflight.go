package api

import (
	"context"

	"golang.org/x/sync/semaphore"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// waitingShare is how many times as much as is given to the queue at once may be
// in memory, with what waits for that.
const waitingShare = 4

// inflight bounds the bytes of submissions that are given to the queue at once:
// those that come during a commit are all in the next one, which builds them a
// second time in memory. The queue itself counts tasks, and a task may be large.
type inflight struct {
	most  int64
	going *semaphore.Weighted // given to the queue
	all   *semaphore.Weighted // with those that wait
}

func newInflight(most int64) *inflight {
	return &inflight{most: most, going: semaphore.NewWeighted(most), all: semaphore.NewWeighted(waitingShare * most)}
}

// errTooMuch sends a submission away when so much waits already that a line would
// only fill the memory.
var errTooMuch = task.Errorf(task.CodeUnavailable, "too much is being submitted at this moment; try again in a moment")

// enter waits for its turn with a submission of so many bytes. leave is to be
// called when the queue has answered.
func (f *inflight) enter(ctx context.Context, bytes int64) (leave func(), err error) {
	bytes = min(bytes, f.most) // one that is larger goes alone
	if !f.all.TryAcquire(bytes) {
		return nil, errTooMuch
	}
	leaveGoing, err := f.enterHeld(ctx, bytes)
	if err != nil {
		f.all.Release(bytes)
		return nil, err
	}
	return func() {
		leaveGoing()
		f.all.Release(bytes)
	}, nil
}

// enterHeld is enter for what its sender is held back by: it is never sent away.
func (f *inflight) enterHeld(ctx context.Context, bytes int64) (leave func(), err error) {
	bytes = min(bytes, f.most)
	if err := f.going.Acquire(ctx, bytes); err != nil {
		return nil, context.Cause(ctx)
	}
	return func() { f.going.Release(bytes) }, nil
}
