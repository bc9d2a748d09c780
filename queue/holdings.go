package queue

import (
	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// holdings counts what a sound database holds.
func (q *Queue) holdings() (h Holdings, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		stored := counts{}
		if err := stored.load(tx); err != nil {
			return err
		}
		h.QueueID = queueID(tx)
		h.Tasks = stored.total(func(task.State) bool { return true })
		h.Unfinished = stored.total(func(s task.State) bool { return !s.Terminal() })
		h.Tombstones = tx.Bucket(bucketTombs).Stats().KeyN
		h.Events = tx.Bucket(bucketEvents).Stats().KeyN
		return nil
	})
	return h, err
}
