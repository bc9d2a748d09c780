package workers

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestSlurmDoesNotAnswer: Slurm is asked about all workers that are not heard with one
// call. While it does not answer, what others report goes on, and one that is heard again
// meanwhile is not taken for gone.
func TestSlurmDoesNotAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked, answer := make(chan []string, 10), make(chan map[string]bool)
		f := newFixture(t, Options{Jobs: func(ctx context.Context, jobs []string) (map[string]bool, error) {
			asked <- jobs
			select {
			case works := <-answer:
				return works, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}})
		defer f.watch()()
		f.launch(f.placed(3)...)
		back, gone, live := f.worker("back", lease.Card{Job: "7", Where: far("n1")}), f.worker("gone", lease.Card{Job: "8", Where: far("n2")}), f.worker("live", lease.Card{})
		synctest.Wait()
		grants := map[string]lease.Grant{}
		for _, w := range []lease.Folder{back, gone, live} {
			g := f.lease(w, 1, 0)
			f.claim(w, g)
			grants[w.ID()] = g
			f.remains.set(func(r *fakeRemains) { r.facts[g.Tasks[0].Ref()] = began(g.Tasks[0].Ref()) })
		}
		for range 20 {
			time.Sleep(time.Second)
			f.extend(live)
		}
		synctest.Wait()
		first := <-asked
		slices.Sort(first)
		if !slices.Equal(first, []string{"7", "8"}) || len(asked) > 0 {
			t.Fatalf("asked about %v, and %d times more", first, len(asked))
		}
		ref := grants[live.ID()].Tasks[0].Ref()
		if _, err := f.Complete(t.Context(), live.ID(), []lease.Report{{Ref: ref, Lease: grants[live.ID()].Lease, Changes: ran(ref)}}); err != nil {
			t.Fatal(err)
		}
		if s := f.of(ref.Seq).State(); s != task.Succeeded {
			t.Errorf("what was reported meanwhile is %v", s)
		}
		f.extend(back)
		answer <- map[string]bool{"7": true}
		for range 5 {
			time.Sleep(time.Second)
			f.extend(back)
		}
		if s := f.of(grants[gone.ID()].Tasks[0].Seq); s.State() != task.Lost || !strings.Contains(s.Status().Outcome.Message, "Slurm job 8") {
			t.Errorf("what ran in the job that is over is %v: %q", s.State(), s.Status().Outcome.Message)
		}
		if s := f.of(grants[back.ID()].Tasks[0].Seq).State(); s != task.Running {
			t.Errorf("what runs on the worker that is heard again is %v", s)
		}
	})
}

// TestHeardWhileLookedAfter: a worker calls while what it has left is read.
func TestHeardWhileLookedAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{})
		looks := 0
		w := f.worker("back", lease.Card{Where: far("n1")})
		f.remains.onLook = func() {
			looks++
			f.extend(w)
		}
		defer f.watch()()
		f.launch(f.placed(1)...)
		synctest.Wait()
		f.claim(w, f.lease(w, 1, 0))
		time.Sleep(time.Minute)
		synctest.Wait()
		if looks == 0 || looks > 4 {
			t.Errorf("it was looked after %d times", looks)
		}
		if s := f.of(1).State(); s != task.Assigned {
			t.Errorf("what it has is %v", s)
		}
	})
}

func (f *fixture) extend(w lease.Folder) {
	f.t.Helper()
	if _, err := f.Extend(f.t.Context(), lease.Hold{Worker: w.ID()}); err != nil {
		f.t.Fatal(err)
	}
}

// TestTwinIsNotDead: a worker on a host that was made from the same image as ours, and
// shares the machine's id, is no earlier boot of ours.
func TestTwinIsNotDead(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Options{})
	for name, dead := range map[string]bool{f.here.Name: true, f.here.Name + "-twin": false} {
		m := &member{card: lease.Card{Where: host.Identity{Machine: f.here.Machine, Boot: "another", Name: name}}}
		if f.dead(m) != dead {
			t.Errorf("a worker of another boot of a machine with our id on %q: dead %t", name, !dead)
		}
	}
}

// TestRemainsOfAWorker: what the worker has claimed, and of which its supervisor has noted
// nothing, is free only where all that was noted could be read.
func TestRemainsOfAWorker(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		remains func(r *fakeRemains)
		want    task.State
		waits   bool // for a worker
	}{
		"all was read":     {remains: func(*fakeRemains) {}, want: task.Assigned, waits: true},
		"it cannot be now": {remains: func(r *fakeRemains) { r.err = errors.New("stale file handle") }, want: task.Assigned},
		"its end cannot be": {remains: func(r *fakeRemains) {
			ref := task.Ref{Seq: 1, Attempt: 1}
			r.facts[ref], r.unread = began(ref), errors.New("stale file handle")
		}, want: task.Running},
		"it is damaged": {remains: func(r *fakeRemains) { r.broken = true }, want: task.Lost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, Options{Stranded: time.Hour})
				defer f.watch()()
				f.launch(f.placed(1)...)
				w := f.worker("gone", lease.Card{})
				synctest.Wait()
				f.claim(w, f.lease(w, 1, 0))
				f.remains.set(c.remains)
				if err := w.Leave(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(brokenFor)
				synctest.Wait()
				if s := f.of(1).State(); s == task.Lost {
					t.Error("it is lost at once")
				}
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if s := f.of(1).State(); s != c.want {
					t.Errorf("it is %v", s)
				}
				if waits := f.Waiting() == 1; waits != c.waits {
					t.Errorf("it waits for a worker: %t", waits)
				}
			})
		})
	}
}

// TestRanBeforeTheRestart: after a restart of the daemon what the engine has as running is
// not begun anew because the worker is gone and its journal says nothing.
func TestRanBeforeTheRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{})
		k := f.placed(1)[0]
		w := f.worker("gone", lease.Card{})
		if err := errors.Join(w.Give(5, []task.Ref{k.Ref()}), w.Leave()); err != nil {
			t.Fatal(err)
		}
		for _, c := range began(k.Ref()) {
			var err error
			if k, err = task.Apply(k, c.Event); err != nil {
				t.Fatal(err)
			}
		}
		defer f.watch(k)()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if s := f.of(1).State(); s != task.Lost {
			t.Errorf("it is %v", s)
		}
	})
}

// TestReturnedInOrder: what is given back waits in the order in which it came.
func TestReturnedInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{})
		defer f.watch()()
		f.launch(f.placed(40)...)
		w := f.worker("some", lease.Card{})
		synctest.Wait()
		g := f.lease(w, 40, 0)
		var reports []lease.Report
		for _, k := range g.Tasks {
			reports = append(reports, lease.Report{Ref: k.Ref(), Lease: g.Lease, Returned: true})
		}
		if _, err := f.Complete(t.Context(), w.ID(), reports[:30]); err != nil {
			t.Fatal(err)
		}
		if err := w.Leave(); err != nil { // the rest is taken back
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		var order []task.Seq
		f.Backend.mu.Lock()
		for _, a := range f.line {
			order = append(order, a.ref.Seq)
		}
		f.Backend.mu.Unlock()
		if len(order) != 40 || !slices.IsSorted(order[:10]) || !slices.IsSorted(order[10:]) {
			t.Errorf("%v", order)
		}
	})
}

// TestFolderRemoved: a user's word that the worker is gone. What it had not begun is given
// on, what it had begun is lost, and it is forgotten.
func TestFolderRemoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{})
		defer f.watch()()
		f.launch(f.placed(3)...)
		w := f.worker("gone", lease.Card{Where: far("n1")})
		synctest.Wait()
		g := f.lease(w, 3, 0)
		ref := g.Tasks[0].Ref()
		f.claim(w, lease.Grant{Lease: g.Lease, Tasks: g.Tasks[:2]})
		if _, err := f.Complete(t.Context(), w.ID(), []lease.Report{{Ref: ref, Lease: g.Lease, Changes: began(ref)}}); err != nil {
			t.Fatal(err)
		}
		f.remains.set(func(r *fakeRemains) { r.lives = true })
		other := f.worker("other", lease.Card{})
		for range 20 { // then the second is found claimed
			if _, err := f.Lease(t.Context(), lease.Want{Worker: other.ID(), Hold: 3}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		f.remains.set(func(r *fakeRemains) { r.lives, r.broken = false, true })
		if err := w.Remove(); err != nil {
			t.Fatal(err)
		}
		for range brokenFor/time.Second + 5 {
			f.extend(other)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if a, b := f.of(1).State(), f.of(2).State(); a != task.Lost || b != task.Lost {
			t.Errorf("what it had begun is %v and %v", a, b)
		}
		if g := f.lease(other, 3, 0); len(g.Tasks) != 1 || g.Tasks[0].Seq != 3 {
			t.Errorf("%+v is given on", g)
		}
		if err := f.Forget(t.Context(), []task.Ref{{Seq: 1, Attempt: 1}, {Seq: 2, Attempt: 1}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		f.Backend.mu.Lock()
		defer f.Backend.mu.Unlock()
		if f.members[w.ID()] != nil {
			t.Error("the worker is still there")
		}
	})
}

// TestStranded: what no worker that is there could take is given back to the engine after a
// while, and nothing else.
func TestStranded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{})
		defer f.watch()()
		small := f.placed(1)[0]
		large := f.placed(1)[0]
		large.Spec.Resources = task.Resources{CPUMilli: 8000}
		w := f.worker("small", lease.Card{CPUMilli: 1000})
		call := func() {
			if _, err := f.Lease(t.Context(), lease.Want{Worker: w.ID(), Hold: 4}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		call()
		f.launch(small, large)
		for range int(DefaultStranded/time.Second) - 1 {
			time.Sleep(time.Second)
			call()
		}
		if n := f.Waiting(); n != 2 {
			t.Errorf("%d wait", n)
		}
		for range 3 {
			time.Sleep(time.Second)
			call()
		}
		if s := f.of(large.Seq); s.State() != task.Pending && s.State() != task.Failed || f.Waiting() != 1 {
			t.Errorf("what none could take is %v, and %d wait", s.State(), f.Waiting())
		}
		if s := f.of(small.Seq).State(); s != task.Assigned {
			t.Errorf("what one could take is %v", s)
		}
		time.Sleep(DefaultUnheard + DefaultStranded + 3*time.Second) // the worker is heard no more
		if n := f.Waiting(); n != 0 {
			t.Errorf("%d wait, and there is no worker", n)
		}
	})
}
