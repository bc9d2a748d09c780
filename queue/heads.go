package queue

import (
	"bytes"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// readHead reads the task that stands at a place in the line. v is the value of
// its key in the ready index.
func readHead(tx *bolt.Tx, at spot, shape string, v []byte) (scheduler.Head, error) {
	rec, err := readSpecRecord(tx, seqKey(at.seq))
	if err != nil {
		return scheduler.Head{}, err
	}
	since, attempt := parseReadyValue(v, task.Instant(rec.SubmittedAt))
	return scheduler.Head{
		Seq: at.seq, ID: rec.Id, Attempt: attempt, Order: at.order, Since: since,
		Class: rec.Class, Shape: shape, Resources: decodeResources(rec.Resources),
		Image: rec.Image, Backends: rec.Backends, Limit: task.EnforcedLimit(time.Duration(rec.Timeout), time.Duration(rec.Grace)),
	}, nil
}

// Head returns the first task of a shape in the line; ok is false when nothing of
// the shape is ready.
func (q *Queue) Head(shape string) (h scheduler.Head, ok bool, err error) {
	q.mem.mu.RLock()
	defer q.mem.mu.RUnlock()
	f := q.mem.shapes.line.byShape[q.mem.shapes.byName[shape]]
	if f == nil {
		return h, false, nil
	}
	err = q.view(func(tx *bolt.Tx) error {
		w := walk{q: q, tx: tx, shapes: &q.mem.shapes}
		head, err := w.read(&step{spot: f.first, front: f})
		if head != nil {
			h, ok = *head, true
		}
		return err
	})
	return h, ok, err
}

// positionLimit is where Position stops counting.
const positionLimit = 1000

// Position says how many ready tasks, of any shape, are before a task in the
// line; more means that it stopped counting. A task that is not Pending has
// nobody before it.
func (q *Queue) Position(seq task.Seq) (ahead int, more bool, err error) {
	var t task.Task
	err = q.view(func(tx *bolt.Tx) (err error) {
		t, err = readBrief(tx, seq)
		return err
	})
	if err != nil || t.State() != task.Pending {
		return 0, false, err
	}
	at := spot{order: t.Spec.Order(), seq: seq}
	shapes := q.shapesBefore(at, positionLimit)
	err = q.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketReady).Cursor()
		for _, id := range shapes {
			prefix, place := shapeKey(id), readyKey(id, at.order, at.seq)
			for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix) && bytes.Compare(k, place) < 0; k, _ = c.Next() {
				if ahead++; ahead == positionLimit {
					more = true
					return nil
				}
			}
		}
		return nil
	})
	return ahead, more, err
}

// shapesBefore returns shapes of which something is before a place in the line, no
// more of them than the limit.
func (q *Queue) shapesBefore(at spot, limit int) []shapeID {
	q.mem.mu.RLock()
	defer q.mem.mu.RUnlock()
	var out []shapeID
	var descend func(f fronts, i int)
	descend = func(f fronts, i int) {
		if i >= len(f) || len(out) == limit || f[i].first.compare(at) >= 0 {
			return // those below it in the heap are behind it in the line
		}
		out = append(out, f[i].id)
		descend(f, 2*i+1)
		descend(f, 2*i+2)
	}
	for _, c := range q.mem.shapes.line.classes {
		descend(c.fronts, 0)
	}
	return out
}
