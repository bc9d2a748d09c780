package queue_test

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"pgregory.net/rapid"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// Check compares all that the queue answers with the model.
func (x *machine) Check(t *rapid.T) {
	var active []task.Seq
	counts := task.Counts{}
	for seq, want := range x.m.tasks {
		got, err := x.q.Get(seq)
		if err != nil {
			t.Fatalf("get %d: %v", seq, err)
		}
		x.compare(t, got, want)
		if byID, err := x.q.Lookup(want.Spec.ID); err != nil || byID.Seq != seq {
			t.Fatalf("lookup %s: %v %v, want %d", want.Spec.ID, byID.Seq, err, seq)
		}
		if want.State().Active() {
			active = append(active, seq)
		}
		if counts[want.Spec.Class] == nil {
			counts[want.Spec.Class] = map[task.State]int{}
		}
		counts[want.Spec.Class][want.State()]++
	}
	if got := x.q.Counts(); !reflect.DeepEqual(got, counts) {
		t.Fatalf("counts %v, want %v", got, counts)
	}
	x.checkClasses(t)
	slices.Sort(active)
	tasks, err := x.q.Active()
	if err != nil || !slices.Equal(seqs(tasks), active) {
		t.Fatalf("active %v %v, want %v", seqs(tasks), err, active)
	}
	x.checkLine(t)
	x.checkFinals(t)
	x.checkList(t)
	x.checkEvents(t)
}

// checkClasses compares what is known of each class.
func (x *machine) checkClasses(t *rapid.T) {
	waiting, oldest := map[string]task.Waiting{}, map[string]task.Instant{}
	for seq, tk := range x.m.tasks {
		s, class := tk.Status(), tk.Spec.Class
		if s.State != task.Pending {
			continue
		}
		at := tk.Spec.SubmittedAt
		if n := len(s.Past); n > 0 {
			at = s.Past[n-1].EndedAt
		}
		if oldest[class] == 0 || at < oldest[class] {
			oldest[class] = at
		}
		w := waiting[class]
		switch {
		case s.Cancel != nil:
			continue
		case s.Blocked > 0:
			w.Blocked++
		case s.Held != "":
			w.Held++
		case x.m.delayed[seq]:
			w.Delayed++
		default:
			w.Ready++
		}
		waiting[class] = w
	}
	if got := x.q.Waiting(); !maps.Equal(got, waiting) {
		t.Fatalf("waiting %v, want %v", got, waiting)
	}
	if got, err := x.q.OldestWaiting(); err != nil || !maps.Equal(got, oldest) {
		t.Fatalf("oldest %v %v, want %v", got, err, oldest)
	}
	if got := x.q.Paused(); !maps.Equal(got, x.m.paused) {
		t.Fatalf("paused %v, want %v", got, x.m.paused)
	}
}

func seqs(tasks []task.Task) []task.Seq {
	var out []task.Seq
	for _, t := range tasks {
		out = append(out, t.Seq)
	}
	return out
}

func (x *machine) compare(t *rapid.T, got, want task.Task) {
	g, w := got.Status(), want.Status()
	for _, s := range []*task.Status{&g, &w} {
		s.Outcome.Message = "" // the sentence of a refusal is not the model's business
		s.Past = slices.Clone(s.Past)
		for i := range s.Past {
			s.Past[i].Outcome.Message = ""
		}
	}
	if !reflect.DeepEqual(g, w) {
		t.Fatalf("task %d is\n%+v, want\n%+v", got.Seq, g, w)
	}
	if got.Spec.Digest() != want.Spec.Digest() {
		t.Fatalf("task %d: spec is\n%+v, want\n%+v", got.Seq, got.Spec, want.Spec)
	}
}

func (x *machine) checkLine(t *rapid.T) {
	line := x.m.line()
	heads, err := headsOf(x.q, 1000)
	if err != nil {
		t.Fatalf("heads: %v", err)
	}
	var got []task.Seq
	for _, h := range heads {
		got = append(got, h.Seq)
		if want := x.m.tasks[h.Seq]; h.Attempt != want.Attempt() || h.Shape != want.Spec.Shape() {
			t.Fatalf("head %+v of %+v", h, want)
		}
	}
	if !slices.Equal(got, line) {
		t.Fatalf("heads %v, want %v", got, line)
	}
	for i, seq := range line {
		if ahead, _, err := x.q.Position(seq); err != nil || ahead != i {
			t.Fatalf("position of %d is %d (%v), want %d", seq, ahead, err, i)
		}
	}
}

func (x *machine) checkFinals(t *rapid.T) {
	for id, want := range x.m.finals {
		_, err := x.q.Lookup(id)
		var removed *queue.RemovedError
		if !errors.As(err, &removed) || removed.Final != want {
			t.Fatalf("lookup of removed %s: %v", id, err)
		}
	}
}

// checkList pages through everything, two at a time.
func (x *machine) checkList(t *rapid.T) {
	var got []task.Seq
	for f := (task.Filter{Limit: 2}); ; {
		page, next, err := x.q.List(f)
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		got = append(got, seqs(page)...)
		if f.Before = next; next == 0 {
			break
		}
	}
	want := slices.Sorted(maps.Keys(x.m.tasks))
	slices.Reverse(want)
	if !slices.Equal(got, want) {
		t.Fatalf("list %v, want %v", got, want)
	}
}

func (x *machine) checkEvents(t *rapid.T) {
	records, err := x.q.Records(0, len(x.m.events)+1)
	if err != nil {
		t.Fatalf("records: %v", err)
	}
	var got []string
	for i, r := range records {
		got = append(got, fmt.Sprintf("%d %s", r.Seq, r.Kind))
		if r.Index != uint64(i+1) {
			t.Fatalf("record %d has index %d", i, r.Index)
		}
	}
	if !slices.Equal(got, x.m.events) {
		t.Fatalf("events\n%v, want\n%v", got, x.m.events)
	}
}
