package queue

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Heads returns the first n ready tasks of every shape, in the order of the
// line. Its cost depends on the number of shapes and not on how many wait.
func (q *Queue) Heads(n int) ([]scheduler.Head, error) {
	q.mem.mu.RLock()
	names := maps.Clone(q.mem.shapes.names)
	q.mem.mu.RUnlock()
	var heads []scheduler.Head
	err := q.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketReady).Cursor()
		for id, name := range names {
			prefix := shapeKey(id)
			k, v := c.Seek(prefix)
			for i := 0; i < n && bytes.HasPrefix(k, prefix); i++ {
				h, err := readHead(tx, keySeq(k[12:]), name, v)
				if err != nil {
					return err
				}
				heads = append(heads, h)
				k, v = c.Next()
			}
		}
		return nil
	})
	slices.SortFunc(heads, func(a, b scheduler.Head) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Seq, b.Seq))
	})
	return heads, err
}

func readHead(tx *bolt.Tx, seq task.Seq, shape string, v []byte) (scheduler.Head, error) {
	rec, err := readSpecRecord(tx, seqKey(seq))
	if err != nil {
		return scheduler.Head{}, err
	}
	spec := decodeSpec(rec)
	since, attempt := parseReadyValue(v, spec.SubmittedAt)
	return scheduler.Head{
		Seq: seq, ID: spec.ID, Attempt: attempt, Order: spec.Order(), Since: since,
		Class: spec.Class, Shape: shape, Resources: spec.Resources,
		Image: spec.Image, Builtin: spec.Builtin, Backends: spec.Backends, Limit: spec.Timeout,
	}, nil
}

// positionLimit is where Position stops counting.
const positionLimit = 1000

// Position says how many ready tasks, of any shape, are before a task in the
// line; more means that it stopped counting. A task that is not Pending has
// nobody before it.
func (q *Queue) Position(seq task.Seq) (ahead int, more bool, err error) {
	q.mem.mu.RLock()
	ids := slices.Collect(maps.Keys(q.mem.shapes.names))
	q.mem.mu.RUnlock()
	err = q.view(func(tx *bolt.Tx) error {
		t, err := readBrief(tx, seq)
		if err != nil || t.State() != task.Pending {
			return err
		}
		place := readyKey(0, t.Spec.Order(), seq)[4:]
		c := tx.Bucket(bucketReady).Cursor()
		for _, id := range ids {
			prefix := shapeKey(id)
			for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix) && bytes.Compare(k[4:], place) < 0; k, _ = c.Next() {
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
