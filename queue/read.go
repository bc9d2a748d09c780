package queue

import (
	"errors"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Get returns one task. The error matches ErrNotFound if there is none, and
// task.ErrDamaged if it cannot be read.
func (q *Queue) Get(seq task.Seq) (t task.Task, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		t, err = readTask(tx, seq)
		return err
	})
	q.damaged(seq, err)
	return t, err
}

// Lookup returns the task with an id. The error has CodeNotFound and matches
// ErrNotFound when the queue never had it, or has forgotten even its tombstone;
// it is a RemovedError, with CodeNotFound too, when only that is left. It matches
// task.ErrDamaged when the task cannot be read.
func (q *Queue) Lookup(id string) (task.Task, error) {
	if err := task.ValidateID(id); err != nil {
		return task.Task{}, err
	}
	for {
		h, err := q.findID(id)
		switch {
		case q.damaged(h.seq, err):
			return task.Task{}, cannotRead(id, err)
		case err != nil:
			return task.Task{}, err
		case h.seq == 0:
			return task.Task{}, task.Errorf(task.CodeNotFound, "%w: %s", ErrNotFound, id)
		case h.tomb != nil:
			return task.Task{}, task.Errorf(task.CodeNotFound, "%w", &RemovedError{Final: *h.tomb})
		}
		t, err := q.Get(h.seq)
		if task.CodeOf(err) == task.CodeNotFound {
			continue // retention came between the two looks; the tombstone is there now
		}
		if errors.Is(err, task.ErrDamaged) {
			err = cannotRead(id, err)
		}
		return t, err
	}
}

// Result returns what a task gave back; nil if it gave nothing.
func (q *Queue) Result(seq task.Seq) (r task.Result, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		k := seqKey(seq)
		v := tx.Bucket(bucketResults).Get(k)
		if v == nil {
			return nil
		}
		body, err := open(bucketResults, k, v, formatBytes)
		if err == nil {
			r = append(task.Result(nil), body...)
		}
		return err
	})
	if q.damaged(seq, err) {
		err = task.Errorf(task.CodeInternal, "the result of task number %d is damaged (%w); it was left as it is", seq, err)
	}
	return r, err
}

// Active returns every task from Assigned to Stopping, by Seq, without
// environments and long payloads. Those that cannot be read are left out.
func (q *Queue) Active() (tasks []task.Task, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketActive).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			t, err := readBrief(tx, keySeq(k))
			if q.passOver(bucketActive, k, keySeq(k), err) {
				continue
			}
			if err != nil {
				return err
			}
			tasks = append(tasks, t)
		}
		return nil
	})
	return tasks, err
}
