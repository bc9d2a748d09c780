package queue

import (
	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// holdings counts what a sound database holds.
func (q *Queue) holdings() (m made, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		stored, waits := counts{}, waitCounts{}
		if err := stored.load(tx); err != nil {
			return err
		}
		if err := waits.load(tx); err != nil {
			return err
		}
		m.QueueID = queueID(tx)
		m.Tasks = stored.total(func(task.State) bool { return true })
		m.Unfinished = stored.total(func(s task.State) bool { return !s.Terminal() })
		m.Tombstones = tx.Bucket(bucketTombs).Stats().KeyN
		m.Events = tx.Bucket(bucketEvents).Stats().KeyN
		for _, t := range waits {
			m.held += t[waitHeld]
		}
		return nil
	})
	return m, err
}
