package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// advanceStep bounds what one call of Advance does, and so its transaction.
const advanceStep = 500

// Advance does the work that time brings, a bounded piece per call: retries
// whose time has come become ready, pending tasks that were asked to be
// cancelled are cancelled, and ended tasks release or refuse those that wait for
// them, and so on down. next is when something is due (0 = nothing is); more
// means that another call at once would find work. With nothing to do it costs
// two lookups and no transaction.
func (q *Queue) Advance(ctx context.Context, now task.Instant) (next task.Instant, more bool, err error) {
	next, more, err = q.agenda(now)
	if err != nil || !more {
		return next, false, err
	}
	err = q.write(ctx, advanceStep, func(b *batch) error {
		left, err := b.releaseSome(now, advanceStep)
		if err != nil {
			return fmt.Errorf("release dependants: %w", err)
		}
		if err := b.wakeSome(now, left); err != nil {
			return fmt.Errorf("wake delayed tasks: %w", err)
		}
		return nil
	})
	if err != nil {
		return 0, false, err
	}
	return q.agenda(now)
}

// agenda says what Advance would find to do.
func (q *Queue) agenda(now task.Instant) (next task.Instant, more bool, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		if k, _ := tx.Bucket(bucketReleases).Cursor().First(); k != nil {
			more = true
		}
		c := tx.Bucket(bucketTimers).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			due, seq := keyTimeSeq(k)
			if q.unreadable(seq) {
				continue // it is due for ever
			}
			next, more = due, more || due <= now
			return nil
		}
		return nil
	})
	if more {
		next = now
	}
	return next, more, err
}

// releaseSome sees to dependants of ended tasks and returns what is left of the
// budget. A task with nothing left to release costs one of it too.
func (b *batch) releaseSome(now task.Instant, budget int) (left int, err error) {
	for _, dep := range firstSeqs(b.bucket(bucketReleases), budget) {
		if budget <= 0 {
			break
		}
		n, err := b.release(now, dep, budget)
		if err != nil {
			return 0, err
		}
		budget -= max(n, 1)
	}
	return budget, nil
}

func firstSeqs(b *bolt.Bucket, limit int) []task.Seq {
	var out []task.Seq
	c := b.Cursor()
	for k, _ := c.First(); k != nil && len(out) < limit; k, _ = c.Next() {
		out = append(out, keySeq(k))
	}
	return out
}

// wakeSome sees to the tasks whose time has come.
func (b *batch) wakeSome(now task.Instant, limit int) error {
	var due [][]byte
	c := b.bucket(bucketTimers).Cursor()
	for k, _ := c.First(); k != nil && len(due) < limit; k, _ = c.Next() {
		at, seq := keyTimeSeq(k)
		if at > now {
			break
		}
		if !b.q.unreadable(seq) {
			due = append(due, bytes.Clone(k))
		}
	}
	for _, k := range due {
		_, seq := keyTimeSeq(k)
		e, err := b.entry(seq)
		if stray := errors.Is(err, ErrNotFound); !stray && b.q.damaged(seq, err) {
			continue
		} else if err != nil && !stray {
			return err
		}
		// The status says where the task belongs. A key that it knows nothing of would
		// be due for ever.
		if err := b.drop(bucketTimers, k); err != nil {
			return err
		}
		if b.q.passOver(bucketTimers, k, seq, err) {
			continue
		}
		s := e.task.Status()
		switch {
		case s.State != task.Pending: // this very transaction has moved it on
		case s.Cancel != nil:
			if err := b.step(e, task.Event{Kind: task.EventCancelled, At: now, Attempt: s.Attempt}); err != nil {
				return err
			}
		default:
			e.woken = bytes.Equal(k, timeSeqKey(s.NotBefore, seq))
			e.dirty, e.at = true, max(now, s.NotBefore) // reindex makes it ready
		}
	}
	return nil
}
