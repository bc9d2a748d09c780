package queue

import (
	"bytes"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Stats are numbers for metrics and for people who look after the queue.
type Stats struct {
	Counts      task.Counts
	Shapes      int          // of the ready tasks
	OldestReady task.Instant // since when the longest waiting head has been ready; 0 = none is
	NextDue     task.Instant // when a delayed task becomes ready; 0 = none is delayed
	Releases    int          // ended tasks whose dependants have still to be seen to, up to 1000
	LastIndex   uint64       // of the event log
	FirstIndex  uint64       // of the event log; LastIndex+1 when it is empty
	DBBytes     int64        // of the database file
	FreePages   int          // of the database, to be used again
	PageSize    int
	Commits     uint64 // by this process
	MaxWaiting  int    // tasks that may be Pending at once; 0 = no bound
}

// statsShapes bounds how many shapes Stats visits for OldestReady.
const statsShapes = 1000

// Stats costs a few lookups, and one per shape up to statsShapes.
func (q *Queue) Stats() (Stats, error) {
	s := Stats{Counts: q.Counts(), MaxWaiting: max(0, q.opts.MaxWaiting)}
	var ids []shapeID
	q.mem.mu.RLock()
	s.Commits, s.Shapes = q.mem.commits, len(q.mem.shapes.names)
	for id := range q.mem.shapes.names {
		if len(ids) == statsShapes {
			break
		}
		ids = append(ids, id)
	}
	q.mem.mu.RUnlock()
	db := q.db.Stats()
	s.FreePages = db.FreePageN + db.PendingPageN
	err := q.view(func(tx *bolt.Tx) error {
		s.DBBytes, s.PageSize = tx.Size(), tx.DB().Info().PageSize
		s.Releases = len(firstSeqs(tx.Bucket(bucketReleases), 1000))
		if k, _ := tx.Bucket(bucketTimers).Cursor().First(); k != nil {
			s.NextDue, _ = keyTimeSeq(k)
		}
		s.LastIndex = tx.Bucket(bucketEvents).Sequence()
		s.FirstIndex = s.LastIndex + 1
		if k, _ := tx.Bucket(bucketEvents).Cursor().First(); k != nil {
			s.FirstIndex = uint64(keySeq(k))
		}
		var err error
		s.OldestReady, err = q.oldestReady(tx, ids)
		return err
	})
	return s, err
}

func (q *Queue) oldestReady(tx *bolt.Tx, ids []shapeID) (oldest task.Instant, err error) {
	c := tx.Bucket(bucketReady).Cursor()
	for _, id := range ids {
		prefix := shapeKey(id)
		k, v := c.Seek(prefix)
		if !bytes.HasPrefix(k, prefix) {
			continue
		}
		seq := keySpot(k).seq
		rec, err := readSpecRecord(tx, seqKey(seq))
		if q.passOver(bucketReady, k, seq, err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		since, _ := parseReadyValue(v, task.Instant(rec.SubmittedAt))
		if oldest == 0 || since < oldest {
			oldest = since
		}
	}
	return oldest, nil
}
