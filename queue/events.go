package queue

import (
	"context"
	"sync"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue/queuepb"
)

// recordOf makes the line of the event log for a step.
func recordOf(before, after task.Task, ev task.Event) task.Record {
	s := after.Status()
	r := task.Record{
		At: ev.At, Seq: after.Seq, ID: after.Spec.ID, Class: after.Spec.Class,
		Kind: ev.Kind, Attempt: before.Attempt(), From: before.State(), To: s.State,
		Backend: s.Backend, Text: ev.Text,
	}
	switch {
	case ev.Kind == task.EventRetried:
		r.Text = ev.By
	case ev.Kind == task.EventCancelAsked:
		r.Text = ev.By
		if ev.Text != "" {
			r.Text += ": " + ev.Text
		}
	case s.State == task.Pending && s.Attempt > before.Attempt():
		ended := s.Past[len(s.Past)-1]
		r.To, r.Backend, r.Outcome = ended.State, ended.Backend, ended.Outcome
		r.Again, r.NotBefore = true, s.NotBefore
	case s.State.Terminal():
		r.Outcome = s.Outcome
	}
	return r
}

// log appends a record to the event log.
func (b *batch) log(r task.Record) error {
	b.lastIndex++
	r.Index, r.At, r.Fence = b.lastIndex, b.now, b.q.fence
	v, err := seal(encodeEvent(r))
	if err != nil {
		return err
	}
	b.records = append(b.records, r)
	return b.bucket(bucketEvents).Put(uint64Key(r.Index), v)
}

// tailSize is how many of the latest records are kept in memory, so that those
// who follow the log do not read what was just written.
const tailSize = 4096

// tail is the end of the event log in memory.
type tail struct {
	mu    sync.Mutex
	ring  []task.Record // record i is at i % tailSize
	first uint64        // the oldest in the ring; last+1 when it is empty
	last  uint64        // of the log
	grown chan struct{} // closed when last grows; nil while nobody waits
	over  bool
}

func (t *tail) reset(last uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ring == nil {
		t.first = last + 1
	}
	t.grow(last)
	t.first = max(t.first, last+1)
}

// append takes over the records of a commit, which has dropped those up to one.
func (t *tail) append(records []task.Record, dropped uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.first = max(t.first, dropped+1)
	if len(records) == 0 {
		return
	}
	if t.ring == nil {
		t.ring = make([]task.Record, tailSize)
	}
	for _, r := range records {
		t.ring[r.Index%tailSize] = r
	}
	t.grow(records[len(records)-1].Index)
	if t.last >= tailSize {
		t.first = max(t.first, t.last-tailSize+1)
	}
}

func (t *tail) grow(last uint64) {
	t.last = last
	if t.grown != nil {
		close(t.grown)
		t.grown = nil
	}
}

func (t *tail) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	t.grow(t.last)
}

// read returns records from the ring; ok is false when they are not in it.
func (t *tail) read(from uint64, limit int) (out []task.Record, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if from < t.first {
		return nil, false
	}
	if from > t.last || limit <= 0 {
		return nil, true
	}
	out = make([]task.Record, min(t.last-from+1, uint64(limit)))
	for i := range out {
		out[i] = t.ring[(from+uint64(i))%tailSize]
	}
	return out, true
}

// LastIndex returns the index of the newest event record; 0 = there is none.
func (q *Queue) LastIndex() uint64 {
	q.log.mu.Lock()
	defer q.log.mu.Unlock()
	return q.log.last
}

// WaitRecords returns when LastIndex is above after. It returns an error when
// ctx ends, or the queue is closed, before that.
func (q *Queue) WaitRecords(ctx context.Context, after uint64) error {
	for {
		t := &q.log
		t.mu.Lock()
		if t.last > after {
			t.mu.Unlock()
			return nil
		}
		if t.over {
			t.mu.Unlock()
			return errClosed()
		}
		if t.grown == nil {
			t.grown = make(chan struct{})
		}
		grown := t.grown
		t.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Records returns up to limit event records from the index on, which may be
// none yet. From 0 on means: from the oldest there is. For an index that
// retention has dropped the error is a TruncatedError, which says where to go on.
// A record that cannot be read is there with its Index alone, so that followers
// go on behind it.
func (q *Queue) Records(from uint64, limit int) ([]task.Record, error) {
	if out, ok := q.log.read(from, limit); ok {
		return out, nil
	}
	var out []task.Record
	err := q.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketEvents).Cursor()
		k, v := c.First()
		first := tx.Bucket(bucketEvents).Sequence() + 1
		if k != nil {
			first = uint64(keySeq(k))
		}
		if from != 0 && from < first {
			return &TruncatedError{First: first}
		}
		if from > first {
			k, v = c.Seek(uint64Key(from))
		}
		for ; k != nil && len(out) < limit; k, v = c.Next() {
			r, err := readEvent(k, v)
			if q.damaged(0, err) {
				r, err = task.Record{Index: uint64(keySeq(k))}, nil
			}
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		return nil
	})
	return out, err
}

func readEvent(k, v []byte) (task.Record, error) {
	var rec queuepb.EventRecord
	if err := openMessage(bucketEvents, k, v, &rec); err != nil {
		return task.Record{}, err
	}
	return decodeEvent(uint64(keySeq(k)), &rec), nil
}
