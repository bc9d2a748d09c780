package queue_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// pages lists everything that passes the filter, a page at a time, and calls
// between after each.
func pages(t *testing.T, q *queue.Queue, f task.Filter, between func()) (ids []string, n int) {
	t.Helper()
	for {
		page, next, err := q.List(f)
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		for _, tk := range page {
			ids = append(ids, tk.Spec.ID)
		}
		if n++; next == 0 {
			return ids, n
		}
		f.Before = next
		between()
	}
}

// TestListFindsTheRare: one failed task among thousands of others is on
// the first page, which looks at it alone.
func TestListFindsTheRare(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	seq := submit(t, q, spec("rare"))[0].Seq
	apply(t, q, seq, placed, launched, started, failed)
	for i := range 6 {
		submit(t, q, numbered("many", i*2000, 2000)...)
	}
	for _, f := range []task.Filter{
		{States: []task.State{task.Failed}, Limit: 20},
		{States: []task.State{task.Failed, task.Lost, task.Running}, Limit: 20},
		{Class: "cpu", States: []task.State{task.Failed}, Limit: 20},
	} {
		got, next, err := q.List(f)
		if err != nil || len(got) != 1 || got[0].Spec.ID != "rare" || next != 0 {
			t.Errorf("%+v: %d tasks, next %d (%v)", f, len(got), next, err)
		}
	}
}

// TestListPages: by class and state, over pages of any length, each task comes
// once, the newest first, also while others move on.
func TestListPages(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	var specs []*task.Spec
	for i := range 60 {
		s := spec(fmt.Sprintf("t%02d", i))
		s.Class = []string{"cpu", "gpu", "other"}[i%3]
		specs = append(specs, s)
	}
	tasks := submit(t, q, specs...)
	steps := []task.Event{placed, launched, started, failed}
	for i, tk := range tasks {
		apply(t, q, tk.Seq, steps[:i%5]...)
	}
	all := []task.State{task.Pending, task.Assigned, task.Starting, task.Running, task.Failed}
	for _, limit := range []int{1, 3, 100} {
		for i := range all {
			for _, class := range []string{"", "gpu"} {
				f := task.Filter{Class: class, States: []task.State{all[i], all[(i+2)%5]}, Limit: limit}
				var want []string
				for j := range slices.Backward(tasks) {
					if (class == "" || j%3 == 1) && (j%5 == i || j%5 == (i+2)%5) {
						want = append(want, fmt.Sprintf("t%02d", j))
					}
				}
				if got, _ := pages(t, q, f, func() {}); !slices.Equal(got, want) {
					t.Errorf("%+v: %v, want %v", f, got, want)
				}
			}
		}
	}
	moved := 0
	seen, _ := pages(t, q, task.Filter{States: []task.State{task.Pending}, Limit: 2}, func() {
		apply(t, q, tasks[moved*5].Seq, placed) // the oldest that wait
		submit(t, q, spec(fmt.Sprint("new", moved)))
		moved++
	})
	if slices.Sort(seen); len(slices.Compact(slices.Clone(seen))) != len(seen) {
		t.Errorf("a task came twice: %v", seen)
	}
}

// TestListAfterAnOlderRelease: a release that does not know the index for listings
// opens the queue, moves tasks and leaves the index behind; it is made anew.
func TestListAfterAnOlderRelease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir})
	tasks := submit(t, q, spec("a"), spec("b"), spec("c"))
	apply(t, q, tasks[0].Seq, placed, launched, started, failed)
	closeQueue(t, q)
	edit(t, dir, func(tx *bolt.Tx) error {
		lists, meta := tx.Bucket([]byte("lists")), tx.Bucket([]byte("meta"))
		fence, _ := binary.Uvarint(meta.Get([]byte("fence")))
		if err := meta.Put([]byte("fence"), binary.AppendUvarint(nil, fence+1)); err != nil {
			return err
		}
		k, _ := lists.Cursor().First()
		return lists.Delete(k)
	})
	for _, readOnly := range []bool{true, false} {
		q = openQueue(t, queue.Options{Dir: dir, ReadOnly: readOnly})
		if got, _ := pages(t, q, task.Filter{States: []task.State{task.Pending}, Limit: 1}, func() {}); !slices.Equal(got, []string{"c", "b"}) {
			t.Errorf("pending: %v", got)
		}
		if got, _ := pages(t, q, task.Filter{States: []task.State{task.Failed}}, func() {}); !slices.Equal(got, []string{"a"}) {
			t.Errorf("failed: %v", got)
		}
		closeQueue(t, q)
	}
}

// TestListByIDAndName: the beginning of the id and a part of the name choose, on pages of any
// length, with every other filter.
func TestListByIDAndName(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	for i := range 30 {
		s := spec(fmt.Sprintf("%s/%d", []string{"exp", "exp2", "other"}[i%3], i))
		s.Name = fmt.Sprintf("train %d", i%5)
		seq := submit(t, q, s)[0].Seq
		if i%2 == 0 {
			apply(t, q, seq, placed, launched, started, failed)
		}
	}
	for _, tc := range []struct {
		f    task.Filter
		want int
	}{
		{task.Filter{IDPrefix: "exp/"}, 10},
		{task.Filter{IDPrefix: "exp"}, 20},
		{task.Filter{IDPrefix: "none"}, 0},
		{task.Filter{IDPrefix: "exp/", States: []task.State{task.Failed}}, 5},
		{task.Filter{IDPrefix: "exp/", Class: "cpu"}, 10},
		{task.Filter{Name: "ain 3"}, 6},
		{task.Filter{IDPrefix: "other/", Name: "train 0"}, 2},
	} {
		for _, limit := range []int{1, 3, 100} {
			tc.f.Limit = limit
			if ids, _ := pages(t, q, tc.f, func() {}); len(ids) != tc.want {
				t.Errorf("%+v: %d tasks, want %d: %v", tc.f, len(ids), tc.want, ids)
			}
		}
	}
}
