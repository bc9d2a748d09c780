package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// How much one call of Expire removes, and so how large its transaction is.
const (
	expireTasks  = 500
	expireTombs  = 1000
	expireEvents = 2000
)

// Expire removes what Options.Retention says is too old or too much, a bounded
// piece per call; more means that another call at once would find work. What is
// left of a task is a tombstone, so that its id still answers. The attempts of
// the removed tasks are returned by the last of each, for the caller to delete
// what it keeps about them (log files).
//
// A task that others still wait for, or that has not ended, is never removed, nor
// is anything that cannot be read.
func (q *Queue) Expire(ctx context.Context, now task.Instant) (removed []task.Ref, more bool, err error) {
	work, err := q.expirable(now)
	if err != nil || !work {
		return nil, false, err
	}
	err = q.write(ctx, expireTasks, func(b *batch) error {
		removed, more = nil, false
		limits := b.limits(now)
		if removed, err = b.expireTasks(limits); err != nil {
			return fmt.Errorf("remove ended tasks: %w", err)
		}
		tombs, err := b.expireTombs(limits)
		if err != nil {
			return fmt.Errorf("remove tombstones: %w", err)
		}
		events, err := b.expireEvents(limits)
		if err != nil {
			return fmt.Errorf("drop event records: %w", err)
		}
		more = len(removed) == expireTasks || tombs == expireTombs || events == expireEvents
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return removed, more, nil
}

// limits are the bounds of retention at one moment. What is not younger than an
// instant goes; 0 = no bound.
type limits struct {
	ended, tombs, events task.Instant
	surplus              int    // ended tasks above the bound on their number
	firstEvent           uint64 // records before it are above the bound on theirs
}

func (q *Queue) limitsAt(now task.Instant, ended int, lastIndex uint64) limits {
	r := q.opts.Retention
	l := limits{ended: before(now, r.Age), tombs: before(now, r.TombstoneAge), events: before(now, r.EventAge)}
	if r.Count >= 0 {
		l.surplus = ended - r.Count
	}
	if r.EventMax >= 0 && lastIndex > uint64(r.EventMax) {
		l.firstEvent = lastIndex - uint64(r.EventMax) + 1
	}
	return l
}

func before(now task.Instant, age time.Duration) task.Instant {
	if age < 0 {
		return 0
	}
	return now.Add(-age)
}

func (b *batch) limits(now task.Instant) limits {
	ended := b.q.mem.counts.total(task.State.Terminal) + b.counts.total(task.State.Terminal)
	return b.q.limitsAt(now, ended, b.lastIndex)
}

// expirable says whether Expire has anything to do, without a transaction that
// writes.
func (q *Queue) expirable(now task.Instant) (bool, error) {
	q.mem.mu.RLock()
	l := q.limitsAt(now, q.mem.counts.total(task.State.Terminal), q.mem.lastIndex)
	q.mem.mu.RUnlock()
	var work bool
	err := q.view(func(tx *bolt.Tx) error {
		var err error
		work, err = l.exceeded(q, tx)
		return err
	})
	return work, err
}

// exceeded says whether anything is beyond the limits.
func (l limits) exceeded(q *Queue, tx *bolt.Tx) (bool, error) {
	if k, _ := tx.Bucket(bucketEnded).Cursor().First(); k != nil {
		if at, _ := keyTimeSeq(k); l.surplus > 0 || at <= l.ended {
			return true, nil
		}
	}
	if f, ok, err := firstReadable(q, tx.Bucket(bucketTombs), readFinal); err != nil || ok && f.EndedAt <= l.tombs {
		return true, err
	}
	r, ok, err := firstReadable(q, tx.Bucket(bucketEvents), readEvent)
	return ok && (r.At <= l.events || r.Index < l.firstEvent), err
}

// firstReadable returns the first record of a bucket that can be read.
func firstReadable[T any](q *Queue, b *bolt.Bucket, read func(k, v []byte) (T, error)) (r T, ok bool, err error) {
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if r, err = read(k, v); !q.damaged(0, err) {
			return r, err == nil, err
		}
	}
	return r, false, nil
}

// expireTasks removes ended tasks, those that ended first before the others.
func (b *batch) expireTasks(l limits) ([]task.Ref, error) {
	type ended struct {
		at  task.Instant
		seq task.Seq
	}
	var old []ended
	c := b.bucket(bucketEnded).Cursor()
	for k, _ := c.First(); k != nil && len(old) < expireTasks; k, _ = c.Next() {
		var e ended
		if e.at, e.seq = keyTimeSeq(k); e.at > l.ended && len(old) >= l.surplus {
			break
		}
		if b.q.damage.find(e.seq) == whole && !b.hasWaiters(e.seq) {
			old = append(old, e)
		}
	}
	var removed []task.Ref
	for _, e := range old {
		ref, err := b.bury(e.seq)
		if k := timeSeqKey(e.at, e.seq); errors.Is(err, ErrNotFound) {
			if err := b.drop(bucketEnded, k); err != nil {
				return nil, err
			}
			b.q.passOver(bucketEnded, k, e.seq, err)
			continue
		}
		if b.q.damaged(e.seq, err) {
			continue // it stays: what its tombstone should say is not known
		}
		if err != nil {
			return nil, err
		}
		removed = append(removed, ref)
	}
	return removed, nil
}

// bury replaces an ended task by its tombstone.
func (b *batch) bury(seq task.Seq) (task.Ref, error) {
	k := seqKey(seq)
	rec, err := readSpecRecord(b.tx, k)
	if err != nil {
		return task.Ref{}, err
	}
	t, err := completeTask(b.tx, seq, rec)
	if err != nil {
		return task.Ref{}, err
	}
	s := t.Status()
	tomb, err := seal(encodeFinal(task.Final{ID: t.Spec.ID, Seq: seq, State: s.State, EndedAt: s.EndedAt, Digest: t.Spec.Digest()}))
	if err != nil {
		return task.Ref{}, err
	}
	if err := b.bucket(bucketTombs).Put(k, tomb); err != nil {
		return task.Ref{}, err
	}
	for _, name := range [][]byte{bucketSpecs, bucketPayloads, bucketStatus, bucketResults, bucketReleases} {
		if err := b.bucket(name).Delete(k); err != nil {
			return task.Ref{}, err
		}
	}
	if err := b.bucket(bucketEnded).Delete(timeSeqKey(s.EndedAt, seq)); err != nil {
		return task.Ref{}, err
	}
	if err := b.bucket(bucketLists).Delete(listKey(t.Spec.Class, s.State, seq)); err != nil {
		return task.Ref{}, err
	}
	b.leaveEnv(rec.EnvHash)
	b.counts.bump(t.Spec.Class, s.State, -1)
	return t.Ref(), nil
}

// expireTombs removes tombstones in the order of submission, up to the first
// that has to stay: one of a task that ran long keeps those behind it for as
// much longer.
func (b *batch) expireTombs(l limits) (n int, err error) {
	var old [][]byte
	c := b.bucket(bucketTombs).Cursor()
	for k, v := c.First(); k != nil && len(old) < expireTombs; k, v = c.Next() {
		f, err := readFinal(k, v)
		if b.q.damaged(0, err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if f.EndedAt > l.tombs {
			break
		}
		old = append(old, bytes.Clone(k))
	}
	return len(old), b.deleteAll(bucketTombs, old)
}

func (b *batch) expireEvents(l limits) (n int, err error) {
	var old [][]byte
	c := b.bucket(bucketEvents).Cursor()
	for k, v := c.First(); k != nil && len(old) < expireEvents; k, v = c.Next() {
		r, err := readEvent(k, v)
		if b.q.damaged(0, err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if r.At > l.events && r.Index >= l.firstEvent {
			break
		}
		old = append(old, bytes.Clone(k))
		b.dropped = r.Index
	}
	return len(old), b.deleteAll(bucketEvents, old)
}

func (b *batch) deleteAll(name []byte, keys [][]byte) error {
	bucket := b.bucket(name)
	for _, k := range keys {
		if err := bucket.Delete(k); err != nil {
			return err
		}
	}
	return nil
}
