package queue

import (
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// listSteps is how many tasks one call of List looks at. It bounds the time for
// a filter that few tasks pass.
const listSteps = 20_000

// List returns the tasks that pass the filter, the newest first. When there may
// be more, next is what Filter.Before has to be for them; 0 = that was all. A
// page can be shorter than the limit, even empty, and have a next: List looks
// at a bounded number of tasks per call.
//
// Environments and long payloads are left out, as a listing shows neither; Get
// has them.
func (q *Queue) List(f task.Filter) (tasks []task.Task, next task.Seq, err error) {
	l := lister{filter: f, limit: f.Limit, left: -1}
	if l.limit <= 0 {
		l.limit = task.DefaultLimit
	}
	err = q.view(func(tx *bolt.Tx) error {
		if f.Before == 0 {
			// A first page knows how many there are, and need not search for others.
			var err error
			if l.left, err = matching(tx, f); err != nil {
				return err
			}
		}
		if len(f.States) > 0 && !slices.ContainsFunc(f.States, func(s task.State) bool { return !s.Active() }) {
			return l.scan(tx, bucketActive)
		}
		return l.scan(tx, bucketSpecs)
	})
	return l.tasks, l.next, err
}

// matching counts the tasks that pass the filter, as the transaction sees them:
// the counts in memory may be those of the commit before or after.
func matching(tx *bolt.Tx, f task.Filter) (int, error) {
	all := counts{}
	if err := all.load(tx); err != nil {
		return 0, err
	}
	n := 0
	for class, states := range all {
		for s, k := range states {
			if (f.Class == "" || f.Class == class) && (len(f.States) == 0 || slices.Contains(f.States, s)) {
				n += k
			}
		}
	}
	return n, nil
}

// lister collects one page.
type lister struct {
	filter task.Filter
	limit  int
	left   int // how many more there are; negative = unknown
	tasks  []task.Task
	next   task.Seq
}

// scan goes backwards through a bucket whose keys are Seqs.
func (l *lister) scan(tx *bolt.Tx, bucket []byte) error {
	c := tx.Bucket(bucket).Cursor()
	k, _ := c.Last()
	if l.filter.Before != 0 {
		if k, _ = c.Seek(seqKey(l.filter.Before)); k == nil {
			k, _ = c.Last()
		}
		if k != nil && keySeq(k) >= l.filter.Before {
			k, _ = c.Prev()
		}
	}
	for steps := 0; k != nil && l.left != 0; k, _ = c.Prev() {
		seq := keySeq(k)
		if len(l.tasks) == l.limit || steps == listSteps {
			l.next = seq + 1
			return nil
		}
		steps++
		t, err := readBrief(tx, seq)
		if err != nil {
			return err
		}
		if l.passes(t) {
			l.tasks = append(l.tasks, t)
			l.left--
		}
	}
	return nil
}

func (l *lister) passes(t task.Task) bool {
	f := l.filter
	return (f.Class == "" || f.Class == t.Spec.Class) && (len(f.States) == 0 || slices.Contains(f.States, t.State()))
}
