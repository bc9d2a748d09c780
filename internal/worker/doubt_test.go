package worker

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestDoubt: in a job an end by SIGTERM is held back until it is seen whether the job is
// ended, too. All else is reported at once.
func TestDoubt(t *testing.T) {
	t.Parallel()
	term := task.Event{Kind: task.EventExited, Unprompted: true, Outcome: task.Outcome{Signal: int(unix.SIGTERM)}}
	code := task.Event{Kind: task.EventExited, Unprompted: true, Outcome: task.Outcome{ExitCode: 128 + int(unix.SIGTERM)}}
	for name, c := range map[string]struct {
		ev      task.Event
		noJob   bool
		stopped bool // the owner wanted it
		asked   bool // the worker was asked to end meanwhile
		after   time.Duration
		held    bool
		class   task.FailureClass
	}{
		"by SIGTERM":                 {ev: term, after: time.Second, held: true},
		"by a shell that got it":     {ev: code, after: time.Second, held: true},
		"nothing follows":            {ev: term, after: 2 * time.Second},
		"the worker gets one, too":   {ev: term, after: time.Millisecond, asked: true, class: task.Preempted},
		"outside a job":              {ev: term, noJob: true},
		"the owner has it end":       {ev: term, stopped: true},
		"by another signal":          {ev: task.Event{Kind: task.EventExited, Outcome: task.Outcome{Signal: int(unix.SIGSEGV)}}},
		"well":                       {ev: task.Event{Kind: task.EventExited}},
		"well, and the job is ended": {ev: task.Event{Kind: task.EventExited}, asked: true},
	} {
		now := time.Unix(100, 0)
		o, _, _ := options(t, 1)
		o.InJob, o.Now = !c.noJob, func() time.Time { return now }
		w := idleWorker(t, o)
		k := plain(t, 1, 1)[0]
		w.take(lease.Grant{Lease: 1, Tasks: []task.Task{k}})
		w.next().stopped = c.stopped
		c.ev.Attempt = 1
		w.sink([]task.Change{{Seq: 1, Event: c.ev}})
		now = now.Add(c.after)
		w.asked = c.asked
		w.decide()
		got := w.dirty()
		if c.held {
			if len(got) != 0 || w.sum.Succeeded+w.sum.Failed != 0 {
				t.Errorf("%s: %+v is reported, and counted as %+v", name, got, w.sum)
			}
			continue
		}
		if len(got) != 1 || got[0].Changes[0].Event.Outcome.Class != c.class || w.sum.Succeeded+w.sum.Failed != 1 {
			t.Errorf("%s: %+v is reported, and counted as %+v", name, got, w.sum)
		}
	}
}

// TestCutShort: what is ended for want of time was preempted, unless the owner wanted it to
// end.
func TestCutShort(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cut, stopped bool
		kind, want   task.EventKind
	}{
		{true, false, task.EventStopped, task.EventExited},
		{true, true, task.EventStopped, task.EventStopped},
		{false, false, task.EventStopped, task.EventStopped},
		{true, false, task.EventVanished, task.EventVanished},
	} {
		change := task.Change{Event: task.Event{Kind: c.kind}}
		(&held{cut: c.cut, stopped: c.stopped}).cutShort(&change)
		if ev := change.Event; ev.Kind != c.want || (ev.Outcome.Class == task.Preempted) != (c.kind != c.want) {
			t.Errorf("%+v: %+v", c, ev)
		}
	}
}

// TestEndAt: how long what runs may go on.
func TestEndAt(t *testing.T) {
	t.Parallel()
	now := time.Unix(10_000, 0)
	for name, c := range map[string]struct {
		left         time.Duration // until its time is over; 0 = it has no end
		asked, inJob bool
		want         time.Duration
	}{
		"no end":                                {want: 10 * time.Second},
		"its time is nearly over":               {left: 40 * time.Second, want: 20 * time.Second},
		"Slurm warns":                           {left: 60 * time.Second, asked: true, inJob: true, want: 40 * time.Second},
		"Slurm warns a minute early":            {left: 119 * time.Second, asked: true, inJob: true, want: 99 * time.Second},
		"scancel, long before the end":          {left: time.Hour, asked: true, inJob: true, want: 10 * time.Second},
		"preempted some minutes before the end": {left: 4 * time.Minute, asked: true, inJob: true, want: 10 * time.Second},
		"Ctrl-C just before the end":            {left: time.Minute, asked: true, want: 10 * time.Second},
		"nothing to do, long before the end":    {left: time.Hour, inJob: true, want: 10 * time.Second},
	} {
		o, _, _ := options(t, 1)
		o.InJob, o.Now = c.inJob, func() time.Time { return now }
		if c.left > 0 {
			o.Until = now.Add(c.left)
		}
		w := idleWorker(t, o)
		w.asked = c.asked
		if got := w.endAt().Sub(now); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
