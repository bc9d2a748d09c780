package queue

import (
	"bytes"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// checkedTask is what the checker remembers of a task.
type checkedTask struct {
	id    string
	state task.State
}

func (c *checker) loadShapes() error {
	return c.shapes.load(c.tx, func(_ shapeID, err error) (string, error) {
		c.found = append(c.found, err)
		return "", nil
	})
}

// checkTasks reads every task and notes where it has to be found.
func (c *checker) checkTasks() error {
	return c.tx.Bucket(bucketSpecs).ForEach(func(k, _ []byte) error {
		seq := keySeq(k)
		t, err := readTask(c.tx, seq)
		if err != nil {
			c.found = append(c.found, err)
			return c.ctx.Err()
		}
		c.tasks[seq] = checkedTask{t.Spec.ID, t.State()}
		c.counts.bump(t.Spec.Class, t.State(), 1)
		if h := hashEnv(t.Spec.Ambient); h != (envHash{}) {
			c.envs[string(h[:])]++
		}
		if t.Spec.SubmittedAt == 0 || t.Seq == 0 || t.Attempt() < 1 {
			c.wrong(seq, "has no submit time, number or attempt")
		}
		c.place(t)
		return c.ctx.Err()
	})
}

func (c *checker) place(t task.Task) {
	seq, s := t.Seq, t.Status()
	lease := s.Lease.CPUMilli != 0 || s.Lease.MemBytes != 0 || len(s.Lease.GPUs) > 0
	if lease && !s.State.Active() {
		c.wrong(seq, "is %s and has a lease", s.State)
	}
	c.expect(bucketLists, listKey(t.Spec.Class, phase(s.State), seq), nil)
	delayed := s.NotBefore != 0 && inBucket(c.tx, bucketTimers, timeSeqKey(s.NotBefore, seq))
	c.waits.bump(t.Spec.Class, waitsFor(s, delayed), 1)
	switch {
	case s.State.Terminal():
		c.expect(bucketEnded, timeSeqKey(s.EndedAt, seq), []byte{byte(s.State)})
	case s.State.Active():
		c.expect(bucketActive, seqKey(seq), nil)
	case s.State != task.Pending:
		c.wrong(seq, "has state %d, which does not exist", uint8(s.State))
	case s.Cancel != nil:
		c.expect(bucketTimers, timeSeqKey(0, seq), nil)
	case s.Blocked > 0 || s.Held != "":
	default:
		c.placeReady(t)
	}
	c.placeWaits(t)
}

// placeReady: a retry that has to wait is in timers, and in ready once it was
// moved there.
func (c *checker) placeReady(t task.Task) {
	due := timeSeqKey(t.Status().NotBefore, t.Seq)
	if t.Status().NotBefore != 0 && inBucket(c.tx, bucketTimers, due) {
		c.expect(bucketTimers, due, nil)
		return
	}
	id, ok := c.shapes.byName[t.Spec.Shape()]
	if !ok {
		c.wrong(t.Seq, "is ready, and its shape is unknown")
		return
	}
	c.expect(bucketReady, readyKey(id, t.Spec.Order(), t.Seq), nil)
	c.expect(bucketShapes, shapeKey(id), nil)
}

func inBucket(tx *bolt.Tx, name, key []byte) bool {
	k, _ := tx.Bucket(name).Cursor().Seek(key)
	return bytes.Equal(k, key)
}

// placeWaits: Blocked is the number of keys in waits.
func (c *checker) placeWaits(t task.Task) {
	n := 0
	seen := map[task.Seq]bool{}
	for _, d := range t.Spec.After {
		key := seqSeqKey(d.Seq, t.Seq)
		if t.State() != task.Pending || seen[d.Seq] || !inBucket(c.tx, bucketWaits, key) {
			continue
		}
		seen[d.Seq] = true
		n++
		c.expect(bucketWaits, key, nil)
	}
	if t.State() == task.Pending && n != t.Status().Blocked {
		c.wrong(t.Seq, "is blocked by %d others and has %d keys in waits", t.Status().Blocked, n)
	}
}

func (c *checker) checkTombs() error {
	return c.tx.Bucket(bucketTombs).ForEach(func(k, v []byte) error {
		f, err := readFinal(k, v)
		if err != nil {
			c.found = append(c.found, err)
			return nil
		}
		if _, both := c.tasks[f.Seq]; both || f.Seq != keySeq(k) || !f.State.Terminal() {
			c.wrong(keySeq(k), "has a tombstone, and exists or has not ended")
		}
		return nil
	})
}
