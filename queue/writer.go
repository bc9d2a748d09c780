package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"

	bolt "go.etcd.io/bbolt"
)

// writer is the one goroutine that writes. A call leaves a request and waits;
// the writer takes all that wait, runs them in one transaction, commits, and
// answers. Nobody waits for others to come: a lone caller's request is taken at
// once, and those that come during its commit share the next one.
type writer struct {
	mu      sync.Mutex
	waiting []*request
	closed  bool

	wake chan struct{} // capacity 1: something waits, or closed
	done chan struct{} // closed when the goroutine has ended

	// store is commitTx, unless a test has a disk that fails.
	store func(*bolt.Tx) error
}

// request is one call's part of a transaction.
type request struct {
	// run does the work. It may run several times, each time in a transaction that
	// knows nothing of the earlier ones; so it must not remember.
	run func(*batch) error
	// weight is about how many tasks it touches.
	weight int

	taken  atomic.Bool // by the writer, or by the caller who gave up
	err    error
	finish chan struct{}
}

// maxWeight bounds a commit, so that whoever comes next does not wait long.
const maxWeight = 8192

// start begins to write. idle is called when there is nothing to commit, and returns
// when there may be.
func (w *writer) start(commit func([]*request), idle func()) {
	w.wake = make(chan struct{}, 1)
	w.done = make(chan struct{})
	go w.loop(commit, idle) // ended, and waited for, by stop
}

// stop refuses what was not taken yet and waits for the rest.
func (w *writer) stop() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.nudge()
	<-w.done
}

func (w *writer) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *writer) loop(commit func([]*request), idle func()) {
	defer close(w.done)
	for {
		requests, more := w.take()
		if len(requests) == 0 {
			if !more {
				return
			}
			idle()
			continue
		}
		commit(requests)
		for _, r := range requests {
			close(r.finish)
		}
		// Those just answered often have the next request at hand. Letting them run
		// once makes them part of the next commit instead of the one after it.
		runtime.Gosched()
	}
}

// take returns the requests of the next commit; more is false when there will
// never be any.
func (w *writer) take() (requests []*request, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	weight, n := 0, 0
	for _, r := range w.waiting {
		if weight > 0 && weight+r.weight > maxWeight {
			break
		}
		n++
		if !r.taken.CompareAndSwap(false, true) {
			continue // its caller has given up
		}
		if w.closed {
			r.err = errClosed()
			close(r.finish)
			continue
		}
		weight += r.weight
		requests = append(requests, r)
	}
	clear(w.waiting[:n])
	if w.waiting = w.waiting[n:]; len(w.waiting) == 0 {
		w.waiting = nil
	}
	return requests, !w.closed || len(w.waiting) > 0
}

func (w *writer) add(r *request) bool {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return false
	}
	w.waiting = append(w.waiting, r)
	w.mu.Unlock()
	w.nudge()
	return true
}

// write runs the function in a transaction and returns when it is on disk. When
// ctx ends before the writer has taken the request nothing happens; afterwards
// the outcome is waited for, so that an error means "not stored", but for one that is
// ErrOutcomeUnknown.
func (q *Queue) write(ctx context.Context, weight int, run func(*batch) error) error {
	if q.opts.ReadOnly {
		return task.Errorf(task.CodeUnavailable, "the queue in %s was opened for reading only: %w", q.opts.Dir, ErrReadOnly)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &request{run: run, weight: max(weight, 1), finish: make(chan struct{})}
	if !q.writer.add(r) {
		return errClosed()
	}
	select {
	case <-r.finish:
	case <-ctx.Done():
		if r.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		<-r.finish
	}
	return r.err
}

// commit runs the requests in one transaction. One that fails is answered, and
// the others are run again without it.
func (q *Queue) commit(requests []*request) {
	for {
		failed, err := q.tryCommit(requests)
		if failed == nil {
			q.note(err)
			for _, r := range requests {
				if r.err == nil {
					r.err = err
				}
			}
			return
		}
		failed.err = err
		requests = without(requests, failed)
		if len(requests) == 0 {
			return
		}
	}
}

func without(requests []*request, failed *request) []*request {
	out := make([]*request, 0, len(requests)-1)
	for _, r := range requests {
		if r != failed {
			out = append(out, r)
		}
	}
	return out
}

// tryCommit returns the request that failed, if it was the fault of one.
func (q *Queue) tryCommit(requests []*request) (failed *request, err error) {
	err = q.guard(func() (err error) {
		failed, err = q.tryCommitNow(requests)
		return err
	})
	return failed, err
}

func (q *Queue) tryCommitNow(requests []*request) (failed *request, err error) {
	began := time.Now()
	if err := q.lease.confirm(); err != nil { // commitTx asks again; this spares the work
		return nil, q.commitFailed(err)
	}
	if q.mem.stale {
		if err := q.load(); err != nil {
			return nil, q.commitFailed(err)
		}
	}
	b, err := q.newBatch()
	if err != nil {
		return nil, q.commitFailed(err)
	}
	for _, r := range requests {
		if err := b.run(r); err != nil {
			return r, errors.Join(err, b.tx.Rollback())
		}
	}
	if err := b.commit(); err != nil {
		return nil, q.settle(b, began, err)
	}
	q.mem.absorb(b)
	q.log.append(b.records, b.dropped)
	if b.wake {
		q.signal()
	}
	q.tell(began, b)
	return nil, nil
}

// settle finds out what became of a commit that failed. The failure may have come
// after the meta page was written, so that only the database knows what it holds.
func (q *Queue) settle(b *batch, began time.Time, failure error) error {
	q.mem.stale = true
	if err := q.load(); err != nil {
		q.opts.Logger.Error("cannot read the queue back after a failed commit", "error", err)
		return q.outcomeUnknown(errors.Join(failure, err))
	}
	if !b.landed() {
		return q.commitFailed(failure)
	}
	q.signal()
	if err := q.confirm(); err != nil {
		return q.outcomeUnknown(errors.Join(failure, err))
	}
	q.tell(began, b)
	return nil
}

// landed says whether the commit is there although it failed. What it does not
// change nobody can tell by, and nobody would miss.
func (b *batch) landed() bool {
	switch {
	case len(b.records) > 0:
		return b.q.mem.lastIndex == b.lastIndex
	case len(b.paused) > 0:
		return maps.Equal(b.q.mem.paused, b.pausedThen())
	default:
		return false
	}
}

// tell tells whoever wants to know of a commit that is on disk.
func (q *Queue) tell(began time.Time, b *batch) {
	if q.opts.OnCommit != nil {
		q.opts.OnCommit(time.Since(began), b.records)
	}
}

// confirm makes sure of a commit that is there although it failed: only the last
// sync did, that of the meta page. A further commit syncs the other meta page,
// which holds the same tree; then all of it is on disk. Answering "nothing was
// stored" instead would have people submit their tasks a second time.
func (q *Queue) confirm() error {
	return q.guard(func() error {
		tx, err := q.begin(true)
		if err != nil {
			return beginFailed(err)
		}
		return q.storeTx(tx) // bbolt rolls back by itself when that fails
	})
}

// storeTx commits, on behalf of the writer.
func (q *Queue) storeTx(tx *bolt.Tx) error {
	if q.writer.store != nil {
		return q.writer.store(tx)
	}
	return q.commitTx(tx)
}

// run runs a request inside the batch. A panic is that request's failure alone,
// unless the database file is to blame.
func (b *batch) run(r *request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if err = b.q.damageIn(p); err != nil {
				return
			}
			b.q.opts.Logger.Error("a queue request panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("queue request panicked: %v", p)
		}
	}()
	if err := r.run(b); err != nil {
		return err
	}
	return b.storeTasks()
}
