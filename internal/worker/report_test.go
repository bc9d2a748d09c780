package worker

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func exited(seq task.Seq, result string) task.Change {
	return task.Change{Seq: seq, Event: task.Event{Kind: task.EventExited, Attempt: 1, Unprompted: true}, Result: []byte(result)}
}

// TestReportsFitAMessage: reports are bounded in number and in bytes, and what is left goes
// with the next. One that alone is larger goes alone.
func TestReportsFitAMessage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sizes []int
		most  int // in one report
		calls int
	}{
		"small":     {slices.Repeat([]int{1}, 2500), mostReported, 3},
		"large":     {slices.Repeat([]int{3 << 20}, 12), 5, 3},
		"too large": {[]int{lease.MaxBatchBytes + 1, lease.MaxBatchBytes + 1}, 1, 2},
		"none":      {nil, 0, 0},
	} {
		o, _, _ := options(t, len(c.sizes)+1)
		w := idleWorker(t, o)
		w.take(lease.Grant{Lease: 1, Tasks: plain(t, 1, len(c.sizes))})
		for i, size := range c.sizes {
			w.next()
			w.sink([]task.Change{exited(task.Seq(i+1), strings.Repeat(" ", size))})
		}
		calls, got := 0, 0
		for {
			reports := w.dirty()
			if len(reports) == 0 {
				break
			}
			calls, got = calls+1, got+len(reports)
			if len(reports) > c.most {
				t.Errorf("%s: %d in one report", name, len(reports))
			}
			if got < len(c.sizes) && len(w.report) == 0 {
				t.Errorf("%s: nothing says that there is more", name)
			}
		}
		if calls != c.calls || got != len(c.sizes) {
			t.Errorf("%s: %d in %d calls", name, got, calls)
		}
	}
}

// TestSettle: what is stored is forgotten, with its claim; what was to be, and is not, is
// reported again; and what runs, and is the owner's no more, is ended.
func TestSettle(t *testing.T) {
	t.Parallel()
	o, _, r := options(t, 3)
	w := idleWorker(t, o)
	r.sink = w.sink
	tasks := plain(t, 1, 3)
	w.take(lease.Grant{Lease: 7, Tasks: tasks})
	begun := w.claim()
	if err := r.Launch(t.Context(), begun); err != nil || len(begun) != 3 {
		t.Fatal(begun, err)
	}
	w.sink([]task.Change{exited(1, ""), exited(2, ""), {Seq: 3, Event: task.Event{Kind: task.EventStarted, Attempt: 1}}})
	reports := w.dirty()
	if len(reports) != 3 {
		t.Fatalf("%+v", reports)
	}
	w.settle(t.Context(), reports, []task.Ref{tasks[0].Ref(), tasks[2].Ref()})
	if w.all[tasks[0].Ref()] != nil || !slices.Equal(r.forgotten, []task.Ref{tasks[0].Ref()}) {
		t.Errorf("what is stored is kept: %v", r.forgotten)
	}
	if h := w.all[tasks[2].Ref()]; h == nil || !h.ended {
		t.Error("what is the owner's no more goes on")
	}
	if void, err := o.Folder.Void(tasks[2].Ref(), 7); void || err != nil {
		t.Errorf("what has begun can be given to another: %t, %v", void, err)
	}
	next := w.dirty()
	if len(next) != 2 {
		t.Fatalf("%+v is reported next", next)
	}
	w.undo(next)
	if again := w.dirty(); len(again) != 2 {
		t.Errorf("%+v is reported after a call that failed", again)
	}
	w.settle(t.Context(), next, []task.Ref{tasks[1].Ref(), tasks[2].Ref()})
	if len(w.all) != 0 || w.done != 0 || w.room.usedCPU != 0 {
		t.Errorf("%d are left, %d of them over, and %d of the CPUs are in use", len(w.all), w.done, w.room.usedCPU)
	}
	if void, err := o.Folder.Void(tasks[0].Ref(), 7); !void || err != nil {
		t.Errorf("a claim is left: %t, %v", void, err)
	}
}

// TestLeasedAgain: what is being given back comes again under another lease. It is kept,
// and what is said of the former lease does not touch it.
func TestLeasedAgain(t *testing.T) {
	t.Parallel()
	o, _, _ := options(t, 1)
	w := idleWorker(t, o)
	k := plain(t, 1, 1)
	w.take(lease.Grant{Lease: 1, Tasks: k})
	w.mu.Lock()
	w.giveBack(w.queue[0])
	w.queue = nil
	w.mu.Unlock()
	reports := w.dirty()
	w.take(lease.Grant{Lease: 1, Tasks: k}) // that is the same once more
	if len(w.queue) != 0 {
		t.Error("what was given back is begun")
	}
	w.take(lease.Grant{Lease: 2, Tasks: k})
	if len(w.queue) != 1 || w.done != 0 {
		t.Fatalf("%d wait, %d are over", len(w.queue), w.done)
	}
	w.undo(reports)
	if again := w.dirty(); len(again) != 0 {
		t.Errorf("%+v is reported of a lease that is no more", again)
	}
	w.settle(t.Context(), reports, []task.Ref{k[0].Ref()})
	if h := w.all[k[0].Ref()]; h == nil || h.lease != 2 {
		t.Error("it is forgotten")
	}
	if begun := w.claim(); len(begun) != 1 {
		t.Error("it is not begun")
	}
	if time.Since(w.failed) < time.Minute {
		t.Error("something could not be claimed")
	}
}

// TestGivenOn: what the owner has taken back is not begun, and forgotten.
func TestGivenOn(t *testing.T) {
	t.Parallel()
	o, _, _ := options(t, 2)
	w := idleWorker(t, o)
	k := plain(t, 1, 2)
	w.take(lease.Grant{Lease: 7, Tasks: k})
	if void, err := o.Folder.Void(k[0].Ref(), 7); !void || err != nil {
		t.Fatal(void, err)
	}
	if begun := w.claim(); len(begun) != 1 || begun[0].Seq != 2 {
		t.Errorf("%+v", begun)
	}
	if w.all[k[0].Ref()] != nil || len(w.all) != 1 || w.room.usedCPU != 1000 || len(w.dirty()) != 0 {
		t.Errorf("%d are left, %d of the CPUs are in use", len(w.all), w.room.usedCPU)
	}
}

// TestHold: the owner is told what is here and has not begun.
func TestHold(t *testing.T) {
	t.Parallel()
	o, _, _ := options(t, 1)
	w := idleWorker(t, o)
	if h := w.hold(3); h.Seen != 3 || h.Leased != 0 || len(h.Waiting) != 0 {
		t.Errorf("%+v", h)
	}
	k := plain(t, 1, 3)
	w.take(lease.Grant{Lease: 7, Tasks: k})
	w.claim()
	if h := w.hold(3); h.Leased != 7 || !slices.Equal(h.Waiting, []task.Ref{k[1].Ref(), k[2].Ref()}) {
		t.Errorf("%+v", h)
	}
	w.stopLeasing("it was asked to end")
	if h := w.hold(3); h.Leased != 7 || len(h.Waiting) != 0 {
		t.Errorf("%+v", h)
	}
}
