package workers

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestGrantsFitAMessage: what is handed out at once is bounded in bytes, too, keeps its
// order, and what alone is larger goes alone.
func TestGrantsFitAMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{})
		defer f.watch()()
		tasks := f.placed(12)
		for i := range tasks {
			size := 3 << 20
			if i == 3 {
				size = lease.MaxBatchBytes + 1
			}
			tasks[i].Spec.Payload = []byte(strings.Repeat(" ", size))
		}
		f.launch(tasks...)
		w := f.worker("some", lease.Card{})
		synctest.Wait()
		next, seen := task.Seq(1), uint64(0)
		for _, want := range []int{3, 1, 5, 3, 0} {
			g := f.lease(w, 100, seen)
			if len(g.Tasks) != want {
				t.Fatalf("%d tasks were granted from %d on, want %d", len(g.Tasks), next, want)
			}
			for _, k := range g.Tasks {
				if k.Seq != next {
					t.Fatalf("task %d is handed out, and %d is next", k.Seq, next)
				}
				next++
			}
			seen = max(seen, g.Lease)
		}
	})
}

// TestGrantIsNotOvertaken: while a grant is being written down whose call has broken off,
// the next call waits for it, and brings it.
func TestGrantIsNotOvertaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		writing, write := make(chan struct{}, 10), make(chan error)
		f := newFixture(t, Options{Confirm: func() error {
			writing <- struct{}{}
			return <-write
		}})
		defer f.watch()()
		f.launch(f.placed(2)...)
		w := f.worker("some", lease.Card{})
		synctest.Wait()
		asked := uint64(0)
		ask := func() chan lease.Grant {
			out := make(chan lease.Grant, 1)
			go func() {
				g, _ := f.Lease(t.Context(), lease.Want{Worker: w.ID(), Room: 1, Hold: 2, Wait: longestWait}) // an error brings none
				out <- g
			}()
			for asked++; f.asking(w) != asked; { // it may wait for a mutex then, so that nothing else tells
				runtime.Gosched()
			}
			return out
		}
		first := ask()
		<-writing
		second := ask()
		close(write)
		a, b := <-first, <-second
		if len(b.Tasks) != 1 || b.Lease != a.Lease {
			t.Errorf("the second call brings %+v, and not what the first brought, %+v", b, a)
		}
		third := ask() // nothing was seen: the same once more
		if c := <-third; c.Lease != a.Lease {
			t.Errorf("the third brings %+v", c)
		}
	})
}

// asking is how many calls of Lease a worker has made.
func (f *fixture) asking(w lease.Folder) uint64 {
	f.Backend.mu.Lock()
	defer f.Backend.mu.Unlock()
	if m := f.members[w.ID()]; m != nil {
		return m.asking
	}
	return 0
}

// TestGrantNotWrittenDown: it is not handed out, and what waits is woken.
func TestGrantNotWrittenDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		confirmed := errors.New("the queue has another owner")
		f := newFixture(t, Options{Confirm: func() error { return confirmed }})
		defer f.watch()()
		f.launch(f.placed(2)...)
		w := f.worker("some", lease.Card{})
		synctest.Wait()
		want := lease.Want{Worker: w.ID(), Room: 2, Hold: 2}
		if g, err := f.Lease(t.Context(), want); !errors.Is(err, confirmed) {
			t.Fatalf("%+v, %v", g, err)
		}
		confirmed = nil
		if g := f.lease(w, 2, 0); len(g.Tasks) != 2 || g.Tasks[0].Seq != 1 {
			t.Errorf("%+v", g)
		}
	})
}

// TestLongLedger: a ledger that has grown long is begun anew with what the worker has.
func TestLongLedger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{})
		defer f.watch()()
		f.launch(f.placed(3)...)
		w := f.worker("some", lease.Card{})
		synctest.Wait()
		first := f.lease(w, 1, 0)
		f.claim(w, first)
		ref := first.Tasks[0].Ref()
		var over []task.Ref
		for seq := range task.Seq(200_000) {
			over = append(over, task.Ref{Seq: 100 + seq, Attempt: 1})
		}
		if err := w.Give(1, over); err != nil || !w.LedgerIsLong() {
			t.Fatal(err)
		}
		second := f.lease(w, 1, first.Lease)
		if w.LedgerIsLong() {
			t.Error("it is as long as before")
		}
		has, last, err := w.Ledger()
		if err != nil || len(has) != 2 || has[ref] != first.Lease || has[second.Tasks[0].Ref()] != second.Lease || last != second.Lease {
			t.Errorf("it has %v, last %d, %v", has, last, err)
		}
	})
}
