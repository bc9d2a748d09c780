package queue

import (
	"bytes"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// listSteps is how many tasks one call of List looks at. It bounds the time for
// a filter that few tasks pass.
const listSteps = 20_000

// List returns the tasks that pass the filter, the newest first. When there may
// be more, next is what Filter.Before has to be for them; 0 = that was all. A
// page can be shorter than the limit, even empty, and have a next: List looks
// at a bounded number of tasks per call. Over the pages no task comes twice, and
// one that passes the filter all the time comes once.
//
// Environments and long payloads are left out, as a listing shows neither; Get
// has them. So are tasks that cannot be read; Damaged names them.
func (q *Queue) List(f task.Filter) (tasks []task.Task, next task.Seq, err error) {
	l := lister{q: q, filter: f, limit: f.Limit}
	if l.limit <= 0 {
		l.limit = task.DefaultLimit
	}
	err = q.view(func(tx *bolt.Tx) error {
		l.tx = tx
		return l.read(l.source())
	})
	return l.tasks, l.next, err
}

// lister collects one page.
type lister struct {
	q      *Queue
	tx     *bolt.Tx
	filter task.Filter
	limit  int
	tasks  []task.Task
	next   task.Seq
}

// source returns where the tasks are that may pass the filter.
func (l *lister) source() merged {
	f := l.filter
	if !l.q.listed || f.Class == "" && len(f.States) == 0 {
		return merged{l.backwards(bucketSpecs, nil)}
	}
	classes := []string{f.Class}
	if f.Class == "" {
		classes = listedClasses(l.tx)
	}
	var m merged
	for _, class := range classes {
		for _, p := range l.phases() {
			m = append(m, l.backwards(bucketLists, listPrefix(class, p)))
		}
	}
	return m
}

// phases returns those that the wanted states are in.
func (l *lister) phases() []task.State {
	states := l.filter.States
	if len(states) == 0 {
		states = task.States
	}
	var out []task.State
	for _, s := range states {
		if p := phase(s); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// read fills the page.
func (l *lister) read(from merged) error {
	for steps := 0; ; steps++ {
		seq := from.next()
		if seq == 0 {
			return nil
		}
		if len(l.tasks) == l.limit || steps == listSteps {
			l.next = seq + 1
			return nil
		}
		t, err := l.task(seq)
		if l.q.passOver(bucketLists, seqKey(seq), seq, err) {
			continue
		}
		if err != nil {
			return err
		}
		if t.Spec != nil && l.passes(t) {
			l.tasks = append(l.tasks, t)
		}
	}
}

// task returns an empty Task for one whose id or state alone rules it out.
func (l *lister) task(seq task.Seq) (task.Task, error) {
	if l.filter.IDPrefix != "" {
		k := seqKey(seq)
		v := l.tx.Bucket(bucketSpecs).Get(k)
		if v == nil {
			return readBrief(l.tx, seq) // says what there is to say
		}
		id, err := specID(k, v)
		if err != nil || !strings.HasPrefix(id, l.filter.IDPrefix) {
			return task.Task{}, err
		}
	}
	if len(l.filter.States) > 0 {
		s, err := readState(l.tx, seqKey(seq))
		if err != nil || !slices.Contains(l.filter.States, s) {
			return task.Task{}, err
		}
	}
	return readBrief(l.tx, seq)
}

func (l *lister) passes(t task.Task) bool {
	f := l.filter
	return strings.Contains(t.Spec.Name, f.Name) && (f.Class == "" || f.Class == t.Spec.Class) && (len(f.States) == 0 || slices.Contains(f.States, t.State()))
}

// backwards goes through the keys of a bucket that are a prefix and a Seq, from
// the newest before the page on.
func (l *lister) backwards(bucket, prefix []byte) *backwards {
	s := &backwards{cursor: l.tx.Bucket(bucket).Cursor(), prefix: prefix}
	end := append(bytes.Clone(prefix), bytes.Repeat([]byte{0xff}, 8)...)
	if l.filter.Before != 0 {
		end = append(bytes.Clone(prefix), seqKey(l.filter.Before)...)
	}
	k, _ := s.cursor.Seek(end)
	if k == nil {
		k, _ = s.cursor.Last()
	}
	if k != nil && bytes.Compare(k, end) >= 0 {
		k, _ = s.cursor.Prev()
	}
	s.take(k)
	return s
}

// backwards stands at one key after another, the newest first.
type backwards struct {
	cursor *bolt.Cursor
	prefix []byte
	at     task.Seq // 0 = it is through
}

func (s *backwards) take(k []byte) {
	s.at = 0
	if len(k) == len(s.prefix)+8 && bytes.HasPrefix(k, s.prefix) {
		s.at = keySeq(k[len(s.prefix):])
	}
}

// merged goes through several sets of keys at once. They are few: a class and a
// phase each.
type merged []*backwards

// next returns the newest of what is left; 0 = nothing is.
func (m merged) next() task.Seq {
	var newest *backwards
	for _, s := range m {
		if newest == nil || s.at > newest.at {
			newest = s
		}
	}
	if newest == nil || newest.at == 0 {
		return 0
	}
	seq := newest.at
	k, _ := newest.cursor.Prev()
	newest.take(k)
	return seq
}
