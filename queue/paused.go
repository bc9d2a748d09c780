package queue

import (
	"context"
	"maps"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue/queuepb"
)

// Classes that are paused start nothing. The queue only keeps which they are: it
// shows their tasks in the line all the same. The bucket is younger than the
// schema; a release that does not know it leaves it as it is, and starts the tasks.

// Pause notes that a class is paused. One that is paused already stays so as it was:
// then already is true, and the Pause the earlier one.
func (q *Queue) Pause(ctx context.Context, class string, p task.Pause) (is task.Pause, already bool, err error) {
	if class == "" {
		return task.Pause{}, false, task.Errorf(task.CodeInvalid, "a class without a name cannot be paused")
	}
	if err := p.Check(); err != nil {
		return task.Pause{}, false, err
	}
	p.By, p.Reason = text(p.By), text(p.Reason)
	err = q.write(ctx, 1, func(b *batch) error {
		if is, already = b.pausedThen()[class]; already {
			return nil
		}
		is = p
		v, err := seal(&queuepb.PauseRecord{At: int64(p.At), By: p.By, Reason: p.Reason})
		if err != nil {
			return err
		}
		return b.setPaused(class, &p, func(bk *bolt.Bucket) error { return bk.Put([]byte(class), v) })
	})
	return is, already, err
}

// Resume ends the pause of a class, and returns it; ok is false when there was none.
func (q *Queue) Resume(ctx context.Context, class string) (was task.Pause, ok bool, err error) {
	err = q.write(ctx, 1, func(b *batch) error {
		if was, ok = b.pausedThen()[class]; !ok {
			return nil
		}
		b.wake = true
		return b.setPaused(class, nil, func(bk *bolt.Bucket) error { return bk.Delete([]byte(class)) })
	})
	return was, ok, err
}

// Paused returns the classes that are paused. The caller owns the map.
func (q *Queue) Paused() map[string]task.Pause {
	q.mem.mu.RLock()
	defer q.mem.mu.RUnlock()
	return maps.Clone(q.mem.paused)
}

func (b *batch) setPaused(class string, p *task.Pause, store func(*bolt.Bucket) error) error {
	bk, err := b.tx.CreateBucketIfNotExists(bucketPaused) // an old database has none yet
	if err != nil {
		return err
	}
	if b.paused == nil {
		b.paused = map[string]*task.Pause{}
	}
	b.paused[class] = p
	return store(bk)
}

// pausedThen returns what will be paused once the batch is committed.
func (b *batch) pausedThen() map[string]task.Pause {
	out := maps.Clone(b.q.mem.paused)
	for class, p := range b.paused {
		if p == nil {
			delete(out, class)
		} else {
			out[class] = *p
		}
	}
	return out
}

// loadPaused reads what is paused. A class whose record is damaged stays paused:
// what somebody wanted to wait must not start because a disk forgets.
func (q *Queue) loadPaused(tx *bolt.Tx) (map[string]task.Pause, error) {
	out := map[string]task.Pause{}
	err := eachPaused(tx, func(class string, p task.Pause, err error) error {
		if q.damaged(0, err) {
			p, err = task.Pause{Reason: "the record of it is damaged"}, nil
		}
		out[class] = p
		return err
	})
	return out, err
}

func eachPaused(tx *bolt.Tx, visit func(class string, p task.Pause, err error) error) error {
	b := tx.Bucket(bucketPaused)
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, v []byte) error {
		var r queuepb.PauseRecord
		err := openMessage(bucketPaused, k, v, &r)
		return visit(string(k), task.Pause{At: task.Instant(r.At), By: r.By, Reason: r.Reason}, err)
	})
}
