package queue

import (
	"errors"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// view runs a function in a read transaction. Nothing that the function gets from
// the database may outlive it.
func (q *Queue) view(read func(*bolt.Tx) error) error {
	err := q.db.View(read)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return errClosed()
	}
	return err
}

// Get returns one task. The error matches ErrNotFound if there is none.
func (q *Queue) Get(seq task.Seq) (t task.Task, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		t, err = readTask(tx, seq)
		return err
	})
	return t, err
}

// Lookup returns the task with an id. The error has CodeNotFound and matches
// ErrNotFound when the queue never had it, or has forgotten even its tombstone;
// it is a RemovedError, with CodeNotFound too, when only that is left.
func (q *Queue) Lookup(id string) (task.Task, error) {
	if err := task.ValidateID(id); err != nil {
		return task.Task{}, err
	}
	for {
		h, err := q.findID(id)
		switch {
		case err != nil:
			return task.Task{}, err
		case h.seq == 0:
			return task.Task{}, task.Errorf(task.CodeNotFound, "%w: %s; dspy-agent ps lists what there is", ErrNotFound, id)
		case h.tomb != nil:
			return task.Task{}, task.Errorf(task.CodeNotFound, "%w", &RemovedError{Final: *h.tomb})
		}
		t, err := q.Get(h.seq)
		if task.CodeOf(err) == task.CodeNotFound {
			continue // retention came between the two looks; the tombstone is there now
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
	return r, err
}

// Active returns every task from Assigned to Stopping, by Seq.
func (q *Queue) Active() (tasks []task.Task, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketActive).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			t, err := readTask(tx, keySeq(k))
			if err != nil {
				return err
			}
			tasks = append(tasks, t)
		}
		return nil
	})
	return tasks, err
}
