package process

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"
)

// retryLate is between two looks whether the queue is known to be ours again.
const retryLate = 500 * time.Millisecond

// giveLate hands over again what came too late to be taken, once the queue is known to
// be ours again. Of an owner that was followed by another one it never is.
func (b *Backend) giveLate(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.lateness:
		}
		for until := b.opts.LeaseUntil(); until != 0 && bootTime(until) < bootNow(); until = b.opts.LeaseUntil() {
			if !pauseFor(ctx, retryLate) {
				return
			}
		}
		ss, batch := b.lateBatch()
		if ss == nil {
			continue // the next connection gets them
		}
		if err := batch.send(ss); err != nil {
			b.opts.Logger.Warn("tasks go to the process supervisor once more with the next connection", "error", err)
		}
	}
}

// lateBatch returns what came too late, and the connection; nil = there is none.
func (b *Backend) lateBatch() (*session, *batch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.newBatch()
	for ref := range b.late {
		if st := b.given[ref]; st != nil {
			out.add(proto.CloneOf(st), b.envs[ref])
		}
	}
	clear(b.late)
	return b.session, out
}
