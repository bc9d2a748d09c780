package queue

import (
	"bytes"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// The list index has every task by class and by how far it has come, so that a
// listing reads what it shows. Of the states between Pending and the end it tells
// only that the task is active: those change often, and few tasks are in them.
//
//	lists   class 0 phase(1) seq(8)   -
//
// It is younger than the schema, and a release that does not know it leaves it as
// it was. So the sequence of the bucket is the fencing number of the last opening
// that kept the index; when that was not the last opening of all, the index is
// made anew.

// phase is a state as the list index tells it.
func phase(s task.State) task.State {
	if s.Active() {
		return task.Assigned
	}
	return s
}

func listPrefix(class string, phase task.State) []byte {
	return append(append([]byte(class), 0), byte(phase))
}

func listKey(class string, phase task.State, seq task.Seq) []byte {
	return append(listPrefix(class, phase), seqKey(seq)...)
}

// relist keeps the index in step with a task that a batch has changed.
func (b *batch) relist(e *entry) error {
	class, now := e.task.Spec.Class, phase(e.task.State())
	if !e.fresh {
		old := phase(e.old.State())
		if old == now {
			return nil
		}
		if err := b.bucket(bucketLists).Delete(listKey(class, old, e.task.Seq)); err != nil {
			return err
		}
	}
	return b.bucket(bucketLists).Put(listKey(class, now, e.task.Seq), nil)
}

// openLists makes the index, if it is not there or was not kept, and notes that it
// is kept from here on.
func (q *Queue) openLists(tx *bolt.Tx) error {
	b := tx.Bucket(bucketLists)
	if b == nil || b.Sequence() != q.fence-1 {
		if b != nil {
			if err := tx.DeleteBucket(bucketLists); err != nil {
				return err
			}
		}
		var err error
		if b, err = tx.CreateBucket(bucketLists); err != nil {
			return err
		}
		if err := q.fillLists(tx, b); err != nil {
			return err
		}
	}
	q.listed = true
	return b.SetSequence(q.fence)
}

func (q *Queue) fillLists(tx *bolt.Tx, b *bolt.Bucket) error {
	n := 0
	err := q.eachPhase(tx, func(seq task.Seq, class string, s task.State) error {
		n++
		return b.Put(listKey(class, phase(s), seq), nil)
	})
	if err == nil && n > 0 {
		q.opts.Logger.Info("made the index for listings", "tasks", n)
	}
	return err
}

// listsKept says, for a reader, whether the index is true.
func listsKept(tx *bolt.Tx) bool {
	b := tx.Bucket(bucketLists)
	return b != nil && b.Sequence() == metaNumber(tx.Bucket(bucketMeta), metaFence)
}

// eachPhase visits every task that can be read, in order.
func (q *Queue) eachPhase(tx *bolt.Tx, visit func(task.Seq, string, task.State) error) error {
	return tx.Bucket(bucketSpecs).ForEach(func(k, v []byte) error {
		seq := keySeq(k)
		class, err := specText(k, v, specFieldClass, "class")
		var s task.State
		if err == nil {
			s, err = readState(tx, k)
		}
		switch {
		case q.damaged(seq, err):
			return nil
		case err != nil:
			return err
		}
		return visit(seq, class, s)
	})
}

// listedClasses returns the classes that have tasks.
func listedClasses(tx *bolt.Tx) []string {
	var classes []string
	c := tx.Bucket(bucketLists).Cursor()
	for k, _ := c.First(); k != nil; {
		class, _, _ := bytes.Cut(k, []byte{0})
		classes = append(classes, string(class))
		behind := append(bytes.Clone(class), 1)
		if k, _ = c.Seek(behind); k != nil && bytes.Compare(k, behind) < 0 {
			panic(fileError("the index of classes leads back to where it came from"))
		}
	}
	return classes
}
