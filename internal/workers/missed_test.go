package workers

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestMissed: what a worker that lives says that it does not have is given on, unless it
// has claimed it, has it, or was granted it since.
func TestMissed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{})
		defer f.watch()()
		f.launch(f.placed(4)...)
		w := f.worker("some", lease.Card{})
		synctest.Wait()
		g := f.lease(w, 3, 0)
		f.claim(w, lease.Grant{Lease: g.Lease, Tasks: g.Tasks[:1]})
		f.lease(w, 1, g.Lease)
		hold := lease.Hold{Worker: w.ID(), Leased: g.Lease, Waiting: []task.Ref{g.Tasks[1].Ref()}}
		for i := range 5 {
			if n := f.Waiting(); n != 0 {
				t.Fatalf("%d are given on after %d calls", n, i)
			}
			if _, err := f.Extend(t.Context(), hold); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		f.extend(w) // this one does not say
		if again := f.lease(w, 4, f.last); len(again.Tasks) != 1 || again.Tasks[0].Seq != 3 || again.Lease == g.Lease {
			t.Errorf("%+v is given on", again)
		}
	})
}
