package queue

import (
	"bytes"
	"iter"
	"maps"
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// checkIndexes compares each index with what the records want it to hold.
func (c *checker) checkIndexes() error {
	names := [][]byte{bucketReady, bucketShapes, bucketTimers, bucketActive, bucketEnded, bucketWaits}
	if listsKept(c.tx) {
		names = append(names, bucketLists)
	}
	for _, name := range names {
		want := c.want[string(name)]
		_ = c.tx.Bucket(name).ForEach(func(k, v []byte) error { // the function returns no error
			expected, ok := want[string(k)]
			if !ok {
				c.wrong(keyAbout(name, k), "is in index %s (%x), where it should not be", name, k)
			} else if expected != nil && !bytes.Equal(expected, v) {
				c.wrong(keyAbout(name, k), "has %x in index %s (%x), and should have %x", v, name, k, expected)
			}
			delete(want, string(k))
			return nil
		})
		for k := range want {
			c.wrong(keyAbout(name, []byte(k)), "is not in index %s (%x), where it should be", name, k)
		}
	}
	c.checkReleases()
	return nil
}

// keyAbout returns the task that the key of an index is about; 0 = it has none.
func keyAbout(index, k []byte) task.Seq {
	if bytes.Equal(index, bucketShapes) {
		return 0
	}
	return keyNumber(k)
}

// checkReleases: whoever waits for an ended task is in somebody's to-do.
func (c *checker) checkReleases() {
	releases := c.tx.Bucket(bucketReleases)
	for seq, t := range c.tasks {
		noted := inBucket(c.tx, bucketReleases, seqKey(seq))
		waited := len(waiters(c.tx, seq, 1, nobody)) > 0
		if noted && !t.state.Terminal() {
			c.wrong(seq, "is noted to release others, and has not ended")
		}
		if waited && t.state.Terminal() && !noted {
			c.wrong(seq, "has ended, and those that wait for it will never hear")
		}
	}
	_ = releases.ForEach(func(k, _ []byte) error { // the function returns no error
		if _, ok := c.tasks[keySeq(k)]; !ok {
			c.wrong(keySeq(k), "is noted to release others, and does not exist")
		}
		return nil
	})
}

func (c *checker) checkCounters() error {
	stored := counts{}
	if err := stored.load(c.tx); err != nil {
		return err
	}
	for class, state := range eachState(stored, c.counts) {
		if told, there := stored[class][state], c.counts[class][state]; told != there {
			c.wrong(0, "of class %s the counters say that %d tasks are %s, and it is %d", class, told, state, there)
		}
	}
	if !listsKept(c.tx) {
		return nil // a release that does not know what follows had the queue last
	}
	waits := waitCounts{}
	if err := waits.load(c.tx); err != nil {
		return err
	}
	told, there := waits.waiting(), c.waits.waiting()
	for _, class := range classesOf(told, there) {
		a, b := told[class], there[class]
		c.compareWaits(class, "are ready", a.Ready, b.Ready)
		c.compareWaits(class, "wait for other tasks", a.Blocked, b.Blocked)
		c.compareWaits(class, "wait for a time", a.Delayed, b.Delayed)
		c.compareWaits(class, "are held", a.Held, b.Held)
	}
	return nil
}

func (c *checker) compareWaits(class, what string, told, there int) {
	if told != there {
		c.wrong(0, "of class %s the counters say that %d tasks %s, and it is %d", class, told, what, there)
	}
}

// classesOf returns the keys of both, in order.
func classesOf[V any](a, b map[string]V) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// eachState goes over all states of all classes that are counted in either.
func eachState(a, b counts) iter.Seq2[string, task.State] {
	return func(yield func(string, task.State) bool) {
		for _, class := range classesOf(a, b) {
			for _, state := range task.States {
				if !yield(class, state) {
					return
				}
			}
		}
	}
}

func (c *checker) checkPaused() error {
	return eachPaused(c.tx, func(_ string, _ task.Pause, err error) error {
		if err != nil {
			c.found = append(c.found, err)
		}
		return nil
	})
}

func (c *checker) checkEnvs() error {
	refs := c.tx.Bucket(bucketEnvRefs)
	for _, name := range [][]byte{bucketEnvs, bucketEnvRefs} {
		_ = c.tx.Bucket(name).ForEach(func(k, _ []byte) error { // the function returns no error
			if c.envs[string(k)] == 0 {
				c.wrong(0, "bucket %s has %x, which no task uses", name, k)
			}
			return nil
		})
	}
	for h, n := range c.envs {
		if got := envRefs(refs, []byte(h)); got != n {
			c.wrong(0, "environment %x is counted %d times and used %d times", h, got, n)
		}
	}
	return nil
}

// checkBlobs: what is stored beside a task belongs to one, and is whole.
func (c *checker) checkBlobs() error {
	for _, name := range [][]byte{bucketStatus, bucketPayloads, bucketResults} {
		err := c.tx.Bucket(name).ForEach(func(k, v []byte) error {
			if _, ok := c.tasks[keySeq(k)]; !ok {
				c.wrong(keySeq(k), "has a record in bucket %s, and does not exist", name)
			}
			if bytes.Equal(name, bucketStatus) {
				return nil // read with its task
			}
			if _, err := open(name, k, v, formatBytes); err != nil {
				c.found = append(c.found, err)
			}
			return c.ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	return nil
}
