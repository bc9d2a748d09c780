package queue

import (
	"maps"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue/queuepb"
)

// counts is how many tasks there are, by class and state: the numbers in
// memory, or a batch's changes to them. Their records are written once per
// commit, for the classes that changed.
type counts map[string]map[task.State]int

func (c counts) bump(class string, s task.State, by int) {
	if c[class] == nil {
		c[class] = map[task.State]int{}
	}
	c[class][s] += by
}

func (c counts) add(delta counts) {
	for class, states := range delta {
		for s, n := range states {
			c.bump(class, s, n)
			if c[class][s] == 0 {
				delete(c[class], s)
			}
		}
		if len(c[class]) == 0 {
			delete(c, class)
		}
	}
}

func (c counts) total(match func(task.State) bool) int {
	n := 0
	for _, states := range c {
		for s, k := range states {
			if match(s) {
				n += k
			}
		}
	}
	return n
}

func isPending(s task.State) bool { return s == task.Pending }

func (c counts) load(tx *bolt.Tx) error {
	return tx.Bucket(bucketCounters).ForEach(func(k, v []byte) error {
		var r queuepb.CountRecord
		if err := openMessage(bucketCounters, k, v, &r); err != nil {
			return err
		}
		for _, s := range r.States {
			c.bump(string(k), task.State(s.State), int(s.Count))
		}
		return nil
	})
}

// recount counts the tasks one by one, for when their numbers cannot be read. The
// next commit that changes a number writes it again.
func (q *Queue) recount(tx *bolt.Tx) (counts, error) {
	all := counts{}
	err := q.eachPhase(tx, func(seq task.Seq, class string, s task.State) error {
		all.bump(class, s, 1)
		return nil
	})
	return all, err
}

// storeCounts writes the numbers of the classes that the batch touched.
func (b *batch) storeCounts() error {
	bucket := b.bucket(bucketCounters)
	for class, delta := range b.counts {
		sum := counts{class: maps.Clone(b.q.mem.counts[class])}
		sum.add(counts{class: delta})
		if len(sum) == 0 {
			if err := bucket.Delete([]byte(class)); err != nil {
				return err
			}
			continue
		}
		v, err := seal(countRecord(sum[class], b.waitsThen(class)))
		if err != nil {
			return err
		}
		if err := bucket.Put([]byte(class), v); err != nil {
			return err
		}
	}
	return nil
}

func countRecord(states map[task.State]int, waits waitTally) *queuepb.CountRecord {
	r := &queuepb.CountRecord{Waiting: waits.records()}
	for _, s := range slices.Sorted(maps.Keys(states)) {
		r.States = append(r.States, &queuepb.StateCount{State: uint32(s), Count: int64(states[s])})
	}
	return r
}

// Counts returns how many tasks there are, by class and state.
func (q *Queue) Counts() task.Counts {
	q.mem.mu.RLock()
	defer q.mem.mu.RUnlock()
	out := make(task.Counts, len(q.mem.counts))
	for class, states := range q.mem.counts {
		out[class] = maps.Clone(states)
	}
	return out
}
