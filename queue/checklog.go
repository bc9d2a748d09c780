package queue

import (
	"errors"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// checkIDs looks every task and tombstone up by its id.
func (c *checker) checkIDs() error {
	recent := recentIDs{}
	damaged := func(_ task.Seq, err error) bool { return errors.Is(err, task.ErrDamaged) }
	if err := recent.load(c.tx, damaged); err != nil {
		return err
	}
	runs := readRuns(c.tx)
	for i, r := range runs {
		if len(r)%idPair != 0 {
			c.wrong(0, "id run %d has %d bytes", i, len(r))
		}
		for j := 1; j < r.len(); j++ {
			if r.hash(j) < r.hash(j-1) {
				c.wrong(0, "id run %d is out of order at %d", i, j)
				break
			}
		}
	}
	lookup := func(id string, seq task.Seq) {
		h := hashID(id)
		got, err := verifyID(c.tx, id, func(yield func(task.Seq) bool) {
			for s := range recent.find(h) {
				if !yield(s) {
					return
				}
			}
			findInRuns(runs, h, yield)
		})
		if err != nil || got.seq != seq {
			c.wrong(seq, "has id %s, which leads to task %d (%v)", id, got.seq, err)
		}
	}
	for seq, t := range c.tasks {
		lookup(t.id, seq)
	}
	return c.tx.Bucket(bucketTombs).ForEach(func(k, v []byte) error {
		if f, err := readFinal(k, v); err == nil {
			lookup(f.ID, f.Seq)
		}
		return c.ctx.Err()
	})
}

func (c *checker) checkEvents() error {
	b := c.tx.Bucket(bucketEvents)
	var last, fence uint64
	err := b.ForEach(func(k, v []byte) error {
		r, err := readEvent(k, v)
		if err != nil {
			c.found = append(c.found, err)
			last = 0 // retention goes on behind what it cannot read
			return c.ctx.Err()
		}
		if last != 0 && r.Index != last+1 {
			c.wrong(0, "the event log goes from %d to %d", last, r.Index)
		}
		last = r.Index
		if r.Fence != 0 && r.Fence < fence { // older releases write none
			c.wrong(0, "event %d was written by owner %d, after one that was written by owner %d", r.Index, r.Fence, fence)
		}
		fence = max(fence, r.Fence)
		return c.ctx.Err()
	})
	if last != 0 && last != b.Sequence() {
		c.wrong(0, "the event log ends at %d and is said to end at %d", last, b.Sequence())
	}
	if now := metaNumber(c.tx.Bucket(bucketMeta), metaFence); fence > now {
		c.wrong(0, "the event log has owner %d, and %d is said to be the latest", fence, now)
	}
	for seq := range c.tasks {
		if uint64(seq) > c.tx.Bucket(bucketSpecs).Sequence() {
			c.wrong(seq, "is beyond the highest number given out")
		}
	}
	return err
}
