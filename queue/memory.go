package queue

import (
	"fmt"
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
	waits     waitCounts
	shapes    shapes
	recent    recentIDs
	gpus      gpuLeases
	recounted bool                  // the waits were counted one by one, and are not stored yet
	paused    map[string]task.Pause // by class; replaced, not changed
	lastSeq   task.Seq              // the highest ever given out
	lastIndex uint64                // of the event log
	commits   uint64
	stale     bool // a commit failed, and memory could not be read back yet
}

// load reads the memory from the database.
func (q *Queue) load() error {
	fresh := memory{counts: counts{}, waits: waitCounts{}, shapes: newShapes(), recent: recentIDs{}, gpus: gpuLeases{}}
	var last uint64
	err := q.view(func(tx *bolt.Tx) (err error) {
		fresh.lastSeq = task.Seq(tx.Bucket(bucketSpecs).Sequence())
		last = tx.Bucket(bucketEvents).Sequence()
		checkSequence(tx, bucketSpecs)
		checkSequence(tx, bucketEvents)
		if err := fresh.counts.load(tx); err != nil {
			if !q.damaged(0, err) {
				return err
			}
			if fresh.counts, err = q.recount(tx); err != nil {
				return err
			}
		}
		if err := q.loadWaits(tx, &fresh); err != nil {
			return err
		}
		if err := fresh.shapes.load(tx, q.mendShape(tx)); err != nil {
			return err
		}
		if fresh.paused, err = q.loadPaused(tx); err != nil {
			return err
		}
		if err := fresh.gpus.load(tx, q.damaged); err != nil {
			return err
		}
		return fresh.recent.load(tx, q.damaged)
	})
	if err != nil {
		return err
	}
	m := &q.mem
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts, m.shapes, m.recent, m.lastSeq, m.lastIndex = fresh.counts, fresh.shapes, fresh.recent, fresh.lastSeq, last
	m.gpus = fresh.gpus
	m.waits, m.recounted, m.paused = fresh.waits, fresh.recounted, fresh.paused
	m.stale = false
	q.log.reset(last)
	return nil
}

// checkSequence makes sure that no number is given out twice: that of a bucket's last
// key is not above the highest that the bucket says was given out.
func checkSequence(tx *bolt.Tx, bucket []byte) {
	b := tx.Bucket(bucket)
	if k, _ := b.Cursor().Last(); k != nil && uint64(keySeq(k)) > b.Sequence() {
		panic(fileError(fmt.Sprintf("bucket %s has number %d, and says that %d is the highest", bucket, keySeq(k), b.Sequence())))
	}
}

// absorb takes over what a batch changed, after it was committed.
func (m *memory) absorb(b *batch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commits++
	m.lastSeq, m.lastIndex = b.lastSeq, b.lastIndex
	m.counts.add(b.counts)
	m.waits.add(b.waits)
	m.shapes.absorb(b.shapes)
	if len(b.paused) > 0 {
		m.paused = b.pausedThen()
	}
	if b.idsFlushed {
		m.recent = recentIDs{}
	}
	m.recent.addAll(b.newIDs)
	if b.gpus != nil {
		m.gpus = b.gpus
	}
}
