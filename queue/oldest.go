package queue

import (
	"bytes"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// oldestLooks bounds at how many tasks of a class OldestWaiting looks.
const oldestLooks = 100

// OldestWaiting returns, for each class of which something is Pending, since when
// the one waits that has waited longest, for whatever it waits: since it was
// submitted, or since the end of its last attempt. It goes by the order of
// submission, so it looks at the first that was never tried, and at those before it
// that were, up to a hundred.
func (q *Queue) OldestWaiting() (map[string]task.Instant, error) {
	out := map[string]task.Instant{}
	if !q.listed {
		return out, nil
	}
	err := q.view(func(tx *bolt.Tx) error {
		for _, class := range listedClasses(tx) {
			at, err := q.oldestOf(tx, class)
			if err != nil {
				return err
			}
			if at != 0 {
				out[class] = at
			}
		}
		return nil
	})
	return out, err
}

func (q *Queue) oldestOf(tx *bolt.Tx, class string) (oldest task.Instant, err error) {
	prefix := listPrefix(class, phase(task.Pending))
	c := tx.Bucket(bucketLists).Cursor()
	k, _ := c.Seek(prefix)
	for range oldestLooks {
		if len(k) != len(prefix)+8 || !bytes.HasPrefix(k, prefix) {
			return oldest, nil
		}
		seq := keySeq(k[len(prefix):])
		t, err := readBrief(tx, seq)
		if err != nil && !q.passOver(bucketLists, k, seq, err) {
			return 0, err
		}
		if err == nil {
			since := waitsSince(t)
			if oldest == 0 || since < oldest {
				oldest = since
			}
			if t.Attempt() == 1 {
				return oldest, nil
			}
		}
		k, _ = c.Next()
	}
	return oldest, nil
}

// waitsSince is since when a Pending task waits.
func waitsSince(t task.Task) task.Instant {
	if past := t.Status().Past; len(past) > 0 {
		return past[len(past)-1].EndedAt
	}
	return t.Spec.SubmittedAt
}

// gpuLooks bounds at how many kinds of tasks OldestForGPU looks.
const gpuLooks = 1000

// OldestForGPU returns since when the task has waited that has waited longest of those
// at the head of the line of their kind that need a GPU; 0 = none is ready. It looks at
// a thousand kinds at most.
func (q *Queue) OldestForGPU() (since task.Instant, err error) {
	q.mem.mu.RLock()
	defer q.mem.mu.RUnlock()
	err = q.view(func(tx *bolt.Tx) error {
		w, looks := walk{q: q, tx: tx, shapes: &q.mem.shapes}, 0
		for id, f := range q.mem.shapes.line.byShape {
			if !task.ShapeNeedsGPU(q.mem.shapes.names[id]) {
				continue
			}
			if looks++; looks > gpuLooks {
				return nil
			}
			head, err := w.read(&step{spot: f.first, front: f})
			if err != nil {
				return err
			}
			if head != nil && (since == 0 || head.Since < since) {
				since = head.Since
			}
		}
		return nil
	})
	return since, err
}
