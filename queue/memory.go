package queue

import (
	"sync"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// memory is what the queue keeps beside the database: nothing that grows with
// the number of waiting tasks. It always agrees with the last commit, because
// the writer changes it right after one, and reads it back from disk after a
// commit that failed.
//
// Only the writer's goroutine changes it, so that goroutine reads it without
// the lock.
type memory struct {
	mu        sync.RWMutex
	counts    counts
	shapes    shapes
	recent    recentIDs
	lastSeq   task.Seq // the highest ever given out
	lastIndex uint64   // of the event log
	commits   uint64
	stale     bool // a commit failed, and memory could not be read back yet
}

// load reads the memory from the database.
func (q *Queue) load() error {
	fresh := memory{counts: counts{}, shapes: newShapes(), recent: recentIDs{}}
	var last uint64
	err := q.db.View(func(tx *bolt.Tx) error {
		fresh.lastSeq = task.Seq(tx.Bucket(bucketSpecs).Sequence())
		last = tx.Bucket(bucketEvents).Sequence()
		if err := fresh.counts.load(tx); err != nil {
			return err
		}
		if err := fresh.shapes.load(tx); err != nil {
			return err
		}
		return fresh.recent.load(tx)
	})
	if err != nil {
		return err
	}
	m := &q.mem
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts, m.shapes, m.recent, m.lastSeq, m.lastIndex = fresh.counts, fresh.shapes, fresh.recent, fresh.lastSeq, last
	m.stale = false
	q.log.reset(last)
	return nil
}

// absorb takes over what a batch changed, after it was committed.
func (m *memory) absorb(b *batch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commits++
	m.lastSeq, m.lastIndex = b.lastSeq, b.lastIndex
	m.counts.add(b.counts)
	m.shapes.absorb(b.shapes)
	if b.idsFlushed {
		m.recent = recentIDs{}
	}
	m.recent.addAll(b.newIDs)
}
