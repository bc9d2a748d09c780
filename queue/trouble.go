package queue

import (
	"errors"
	"os"
	"sync"
	"time"
)

// trouble is why nothing can be stored. Every commit says it anew. An idle queue has
// none, so while there is trouble the writer tries by itself, ever less often;
// otherwise a queue that refused its last caller would be thought broken for good.
type trouble struct {
	mu   sync.Mutex
	err  error         // nil = the last attempt worked
	wait time.Duration // until the next; only the writer looks at it
}

// How long the writer waits before it tries by itself: twice as long each time.
const (
	firstTrial = time.Second
	lastTrial  = time.Minute
)

// Trouble returns why nothing can be stored at present, as a caller was told or would
// be told; nil when the last attempt worked.
func (q *Queue) Trouble() error {
	if err := q.Err(); err != nil {
		return err
	}
	q.trouble.mu.Lock()
	defer q.trouble.mu.Unlock()
	return q.trouble.err
}

// note takes down how an attempt to write went.
func (q *Queue) note(err error) {
	q.trouble.mu.Lock()
	was := q.trouble.err
	q.trouble.err = err
	q.trouble.mu.Unlock()
	switch {
	case err != nil && was == nil:
		q.trouble.wait = firstTrial
		q.opts.Logger.Error("the queue cannot be written", "error", err)
	case err == nil && was != nil:
		q.opts.Logger.Info("the queue can be written again")
	}
}

// idle waits until there may be a request, or until it is time to try again.
func (q *Queue) idle() {
	if q.Trouble() == nil || q.Err() != nil {
		<-q.writer.wake
		return
	}
	t := time.NewTimer(q.trouble.wait)
	defer t.Stop()
	select {
	case <-q.writer.wake:
	case <-t.C:
		q.trouble.wait = min(2*q.trouble.wait, lastTrial)
		q.note(q.try())
	}
}

// try returns nil when a commit would work.
func (q *Queue) try() error {
	if q.mem.stale {
		if err := q.load(); err != nil {
			return q.commitFailed(err)
		}
		q.signal() // what a failed commit left behind shows now
	}
	// A commit that changes nothing needs no room, so room is looked for first.
	if err := q.tryRoom(); err != nil {
		return q.commitFailed(err)
	}
	if err := q.confirm(); err != nil {
		return q.commitFailed(err)
	}
	return nil
}

// Room returns nil if there is room for what is written beside the database and in it, and
// else what a caller would be told. It is for those who are about to leave work behind.
func (q *Queue) Room() error {
	if err := q.tryRoom(); err != nil {
		return q.commitFailed(err)
	}
	return nil
}

// trialSize is more than most commits write.
const trialSize = 256 << 10

// tryRoom writes a file beside the database, and removes it. How much a file system
// says is free may not be for us: there are quotas, and reserves.
func (q *Queue) tryRoom() (err error) {
	f, err := os.CreateTemp(q.opts.Dir, tempPattern(trialFile))
	if err != nil {
		return err
	}
	if _, err = f.Write(make([]byte, trialSize)); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}
