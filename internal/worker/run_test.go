package worker

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestRun: what is leased is claimed, run and reported, and a worker that has nothing to do
// ends.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, owner, r := options(t, 2)
		o.Idle, r.at = time.Minute, time.Second
		owner.grants = []lease.Grant{{Lease: 1, Tasks: plain(t, 1, 5)}, {Lease: 2, Tasks: plain(t, 6, 5)}}
		began := time.Now()
		_, done := run(t, o)
		s := <-done
		if s.Succeeded != 10 || s.Failed != 0 || s.Returned != 0 || !strings.Contains(s.Why, "nothing to do") {
			t.Errorf("%+v", s)
		}
		if d := time.Since(began); d < time.Minute || d > 2*time.Minute {
			t.Errorf("it ended after %v", d)
		}
		for seq, rep := range owner.last() {
			if len(rep.Changes) != 2 || rep.Lease != 1+uint64(seq-1)/5 {
				t.Errorf("task %d: %+v", seq, rep)
			}
		}
		if len(owner.last()) != 10 || len(r.forgotten) != 10 || !o.Folder.HasLeft() {
			t.Errorf("%d are reported, %d are forgotten, left %t", len(owner.last()), len(r.forgotten), o.Folder.HasLeft())
		}
	})
}

// TestCannotClaim: what cannot be claimed is given back, is leased again before the owner
// has answered, and runs once the folder can be written.
func TestCannotClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, owner, r := options(t, 1)
		claims := filepath.Join(o.Folder.Dir, "claims")
		if err := errors.Join(os.Remove(claims), os.WriteFile(claims, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		k := plain(t, 1, 1)
		owner.grants = []lease.Grant{{Lease: 1, Tasks: k}}
		owner.complete = func(reports []lease.Report) ([]task.Ref, error) {
			if reports[0].Lease == 1 && reports[0].Returned {
				// It was given on at once, and the worker has it before this answer.
				go owner.set(func(o *fakeOwner) { o.grants = append(o.grants, lease.Grant{Lease: 2, Tasks: k}) })
				owner.complete = nil
				return nil, errors.New("the answer is lost")
			}
			return over(reports), nil
		}
		_, _ = run(t, o)
		time.Sleep(time.Second)
		if err := errors.Join(os.Remove(claims), os.Mkdir(claims, 0o700)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if got := r.running(); !slices.Equal(got, []task.Seq{1}) {
			t.Errorf("%v runs, reported is %+v", got, owner.last())
		}
	})
}

// TestOrders: the owner has an attempt end, and the worker.
func TestOrders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, owner, r := options(t, 2)
		tasks := plain(t, 1, 3)
		owner.grants = []lease.Grant{{Lease: 1, Tasks: tasks}}
		_, done := run(t, o)
		time.Sleep(time.Second)
		owner.set(func(o *fakeOwner) { o.orders = lease.Orders{Serial: 1, Stop: []task.Ref{tasks[0].Ref()}} })
		time.Sleep(time.Second)
		if got := r.running(); !slices.Equal(got, []task.Seq{2, 3}) {
			t.Errorf("%v runs", got)
		}
		owner.set(func(o *fakeOwner) {
			o.orders = lease.Orders{Serial: 2, Leave: true}
			o.grants = []lease.Grant{{Lease: 2, Tasks: plain(t, 4, 1)}} // that comes too late
		})
		s := <-done
		last := owner.last()
		if !strings.Contains(s.Why, "needs it no more") || last[1].Changes[1].Event.Kind != task.EventStopped {
			t.Errorf("%+v, %+v", s, last[1])
		}
		for seq := task.Seq(2); seq <= 3; seq++ { // they had the grace, and no more
			if c := last[seq].Changes; c[len(c)-1].Event.Outcome.Class != task.Preempted {
				t.Errorf("task %d: %+v", seq, c)
			}
		}
		if slices.Contains(r.begun, 4) {
			t.Error("it has begun what came after the order to end")
		}
	})
}

// TestItsTimeIsOver: what has not begun is given back, what ends in time counts, the rest is
// ended before the end.
func TestItsTimeIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, owner, r := options(t, 2)
		o.Until = time.Now().Add(10 * time.Minute)
		tasks := append(plain(t, 1, 2), taskOf(t, 3, task.Resources{CPUMilli: 2000}))
		owner.grants = []lease.Grant{{Lease: 1, Tasks: tasks}}
		_, done := run(t, o)
		time.Sleep(10*time.Minute - 30*time.Second)
		r.end(1, task.Event{Kind: task.EventExited, Unprompted: true})
		s := <-done
		if left := time.Until(o.Until); left < 0 || left > DefaultMargin {
			t.Errorf("it ended %v before its time was over", left)
		}
		last := owner.last()
		if s.Succeeded != 1 || s.Failed != 1 || s.Returned != 1 || !last[3].Returned || last[2].Changes[1].Event.Outcome.Class != task.Preempted {
			t.Errorf("%+v, %+v", s, last)
		}
	})
}

// TestAskedToEnd: in a job, what a SIGTERM for the whole job has ended was preempted.
func TestAskedToEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, owner, r := options(t, 2)
		o.InJob = true
		owner.grants = []lease.Grant{{Lease: 1, Tasks: plain(t, 1, 2)}}
		stop, done := run(t, o)
		time.Sleep(time.Second)
		r.end(1, task.Event{Kind: task.EventExited, Unprompted: true, Outcome: task.Outcome{Signal: 15}})
		stop()
		asked := time.Now()
		s := <-done
		if d := time.Since(asked); d < DefaultGrace || d > 2*DefaultGrace {
			t.Errorf("it ended %v after it was asked to", d)
		}
		last := owner.last()
		for seq := task.Seq(1); seq <= 2; seq++ {
			if c := last[seq].Changes; c[len(c)-1].Event.Outcome.Class != task.Preempted {
				t.Errorf("task %d: %+v", seq, c)
			}
		}
		if s.Failed != 2 || !o.Folder.HasLeft() {
			t.Errorf("%+v", s)
		}
	})
}

// TestOwnerAway: the owner answers no more. The worker goes on for a while, and leaves its
// folder to the next owner.
func TestOwnerAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, owner, r := options(t, 2)
		owner.grants = []lease.Grant{{Lease: 1, Tasks: plain(t, 1, 2)}}
		began := time.Now()
		_, done := run(t, o)
		time.Sleep(time.Second)
		owner.set(func(o *fakeOwner) { o.err = task.Errorf(task.CodeUnavailable, "there is no daemon") })
		time.Sleep(time.Minute)
		r.end(1, task.Event{Kind: task.EventExited, Unprompted: true})
		s := <-done
		if !strings.Contains(s.Why, "nothing was heard") || s.Succeeded != 1 {
			t.Errorf("%+v", s)
		}
		if d := time.Since(began); d < DefaultPatience || d > DefaultPatience+2*time.Minute {
			t.Errorf("it ended after %v", d)
		}
		if o.Folder.HasLeft() || len(owner.last()) != 0 {
			t.Errorf("left %t, reported %+v", o.Folder.HasLeft(), owner.last())
		}
	})
}

// TestTakenForGone: the owner does not know the worker any more.
func TestTakenForGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, owner, _ := options(t, 2)
		owner.err = task.Errorf(task.CodeNotFound, "there is no such worker")
		_, done := run(t, o)
		if s := <-done; !strings.Contains(s.Why, "taken it for gone") {
			t.Errorf("%+v", s)
		}
	})
}

// TestCannotRun: the runner does not take what was claimed, which is reported as that.
func TestCannotRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, owner, r := options(t, 2)
		o.Idle, r.err = time.Minute, errors.New("no supervisor")
		owner.grants = []lease.Grant{{Lease: 1, Tasks: plain(t, 1, 2)}}
		_, done := run(t, o)
		s := <-done
		for seq, rep := range owner.last() {
			if ev := rep.Changes[0].Event; ev.Kind != task.EventNotStarted || !strings.Contains(ev.Text, "no supervisor") {
				t.Errorf("task %d: %+v", seq, ev)
			}
		}
		if s.Failed != 2 || len(owner.last()) != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// TestRunnerFails: without a runner there is no worker.
func TestRunnerFails(t *testing.T) {
	t.Parallel()
	o, _, _ := options(t, 1)
	if _, err := Run(t.Context(), Options{Folder: o.Folder}); err == nil {
		t.Error("it runs with half of its options")
	}
}
