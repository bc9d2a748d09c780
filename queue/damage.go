package queue

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Damage is a stored record that cannot be read. It is left as it is, for a
// repair or for whoever wants to know what the disk did; its task stands still,
// and everything else goes on.
type Damage struct {
	Bucket string   // what kind of record it is: "specs", "status", "events"
	Key    []byte   // of the record in its bucket
	Seq    task.Seq // of the task that it belongs to; 0 = of none
	ID     string   // of that task; "" = nobody knows it any more
	Reason string   // what is wrong with it
}

// damages are the records that were found to be damaged since the queue was
// opened.
type damages struct {
	mu    sync.RWMutex
	list  []Damage
	known map[string]struct{} // bucket and key
	tasks map[task.Seq]ruin
	named int // how many of the list were given their ID
}

// ruin is how much of a task cannot be read.
type ruin uint8

const (
	whole      ruin = iota
	incomplete      // something beside its spec and its status: it can be moved
	unreadable      // it cannot be moved
)

// find returns how much of a task is known to be damaged.
func (d *damages) find(seq task.Seq) ruin {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.tasks[seq]
}

// add returns false for a record that is known already.
func (d *damages) add(seq task.Seq, err *CorruptError) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known, d.tasks = map[string]struct{}{}, map[task.Seq]ruin{}
	}
	if seq != 0 {
		how := incomplete
		if err.Bucket == string(bucketSpecs) || err.Bucket == string(bucketStatus) {
			how = unreadable
		}
		d.tasks[seq] = max(d.tasks[seq], how)
	}
	key := err.Bucket + "/" + string(err.Key)
	if _, ok := d.known[key]; ok {
		return false
	}
	d.known[key] = struct{}{}
	d.list = append(d.list, Damage{Bucket: err.Bucket, Key: bytes.Clone(err.Key), Seq: seq, Reason: err.Reason})
	return true
}

// damaged says whether the error is about a damaged record, and takes note of
// it: it is logged once, and Damaged tells of it from now on. seq is the task
// that was looked at; 0 = none.
func (q *Queue) damaged(seq task.Seq, err error) bool {
	c, ok := errors.AsType[*CorruptError](err)
	if !ok {
		return false
	}
	if q.damage.add(seq, c) {
		q.opts.Logger.Error("a stored record is damaged; it is left as it is, and everything else goes on",
			"bucket", c.Bucket, "key", c.Key, "seq", uint64(seq), "reason", c.Reason)
	}
	return true
}

// passOver is damaged for a task that an index has led to. That it is not there is
// damage of the index: keys have no checksums.
func (q *Queue) passOver(index, key []byte, seq task.Seq, err error) bool {
	if errors.Is(err, ErrNotFound) {
		return q.damaged(0, &CorruptError{Bucket: string(index), Key: key, Reason: "it leads to a task that is not there"})
	}
	return q.damaged(seq, err)
}

// unreadable says whether a task is known to be one that cannot be moved.
func (q *Queue) unreadable(seq task.Seq) bool { return q.damage.find(seq) == unreadable }

// Damaged returns the damaged records that were met since the queue was opened,
// in the order in which they were. Check finds those that nobody has met.
func (q *Queue) Damaged() []Damage {
	d := &q.damage
	d.mu.RLock()
	named, list := d.named, slices.Clone(d.list)
	d.mu.RUnlock()
	if named == len(list) {
		return list
	}
	// Without the lock: whoever reads the database may be about to take it.
	err := q.view(func(tx *bolt.Tx) error {
		nameDamaged(tx, list[named:])
		return nil
	})
	if err == nil { // a queue that was closed has no names to give
		d.mu.Lock()
		copy(d.list, list)
		d.named = max(d.named, len(list))
		d.mu.Unlock()
	}
	return list
}

// Unreadable returns the ids of the tasks that were found to be such since the queue was
// opened; "number N" where the id is lost, too.
func (q *Queue) Unreadable() (ids []string) {
	for _, d := range q.Damaged() {
		if d.Seq == 0 || !q.unreadable(d.Seq) {
			continue
		}
		id := cmp.Or(d.ID, fmt.Sprintf("number %d", d.Seq))
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// nameDamaged fills in the ids of tasks: from their specs, or from the event log
// where it is the spec that cannot be read.
func nameDamaged(tx *bolt.Tx, list []Damage) {
	lost := map[task.Seq]string{}
	for i := range list {
		d := &list[i]
		k := seqKey(d.Seq)
		v := tx.Bucket(bucketSpecs).Get(k)
		if v == nil {
			continue
		}
		var err error
		if d.ID, err = specID(k, v); err != nil {
			lost[d.Seq] = ""
		}
	}
	findSubmitted(tx, lost)
	for i := range list {
		if id, ok := lost[list[i].Seq]; ok {
			list[i].ID = id
		}
	}
}

// findSubmitted fills in the ids that tasks were submitted under, by the event
// log. It is as long as the log, and is for what cannot be found out otherwise.
func findSubmitted(tx *bolt.Tx, ids map[task.Seq]string) {
	if len(ids) == 0 {
		return
	}
	oldest := ^task.Seq(0)
	for seq := range ids {
		oldest = min(oldest, seq)
	}
	c := tx.Bucket(bucketEvents).Cursor()
	for k, v := c.Last(); k != nil; k, v = c.Prev() {
		r, err := readEvent(k, v)
		if err != nil || r.Kind != task.EventSubmitted {
			continue
		}
		if _, wanted := ids[r.Seq]; wanted {
			ids[r.Seq] = r.ID
		}
		if r.Seq <= oldest {
			return // tasks are submitted in the order of their numbers
		}
	}
}

// cannotRead is the error for whoever asks for a task by its id.
func cannotRead(id string, err error) error {
	return task.Errorf(task.CodeInternal,
		"what the queue has stored about task %s is damaged (%w); it was left as it is. dspy-agent queue verify tells all that is wrong; without the daemon, queue repair keeps what can be read and queue restore takes a backup; or submit the work again under another id", id, err)
}
