package queue_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// machine drives a queue and its model through the same random steps.
type machine struct {
	root  string
	dirs  int
	clock *clock
	q     *queue.Queue
	m     *model
}

const modelAge = time.Hour

func (x *machine) open(t rapid.TB, dir string) {
	q, err := queue.Open(context.Background(), queue.Options{
		Dir: dir, Now: x.clock.now, Retention: queue.Retention{Age: modelAge, Count: -1, TombstoneAge: -1, EventAge: -1},
	})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	x.q = q
}

func (x *machine) close(t rapid.TB) {
	if err := x.q.Check(context.Background()); err != nil {
		t.Fatalf("check: %v", err)
	}
	if err := x.q.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func (x *machine) dir() string { return filepath.Join(x.root, fmt.Sprint(x.dirs)) }

var modelIDs = []string{"a", "b", "c", "d", "e", "f", "g", "h"}

func (x *machine) specs(t *rapid.T) []*task.Spec {
	known := slices.Concat(slices.Collect(maps.Keys(x.m.byID)), slices.Collect(maps.Keys(x.m.finals)))
	slices.Sort(known)
	s := &task.Spec{
		ID:       rapid.SampledFrom(modelIDs).Draw(t, "id") + fmt.Sprint(x.m.last%7),
		Class:    rapid.SampledFrom([]string{"cpu", "gpu"}).Draw(t, "class"),
		Priority: rapid.Int32Range(-2, 2).Draw(t, "priority"),
		Retries:  rapid.IntRange(0, 1).Draw(t, "retries"),
		Image:    rapid.SampledFrom([]string{"", "one", "two"}).Draw(t, "image"),
		Argv:     []string{"x\xff"},
		Env:      rapid.SampledFrom([][]string{nil, {"A=1"}, {"B=2", "C=3"}}).Draw(t, "env"),
		Ambient:  rapid.SampledFrom([][]string{nil, {"A=1"}, {"B=2", "C=3"}}).Draw(t, "ambient"),
	}
	if rapid.Bool().Draw(t, "long payload") {
		s.Payload = []byte(`{"text":"` + string(slices.Repeat([]byte("x"), 5000)) + `"}`)
	}
	for range rapid.IntRange(0, min(3, len(known))).Draw(t, "deps") {
		d := task.Dep{ID: rapid.SampledFrom(known).Draw(t, "dep"), When: task.Condition(rapid.IntRange(0, 2).Draw(t, "when"))}
		if d.ID != s.ID {
			s.After = append(s.After, d)
		}
	}
	return []*task.Spec{s, {ID: s.ID + "-next", Class: "cpu", Argv: []string{"true"}, After: []task.Dep{{ID: s.ID}}}}
}

// Submit gives the queue a spec, and one that waits for it.
func (x *machine) Submit(t *rapid.T) {
	specs := x.specs(t)
	answers, err := x.q.Submit(context.Background(), specs)
	if err != nil {
		t.Fatalf("submit: %v", err)
	}
	for i, s := range specs {
		x.checkAnswer(t, s, answers[i])
	}
}

func (x *machine) checkAnswer(t *rapid.T, s *task.Spec, got queue.Submitted) {
	final, removed := x.m.finals[s.ID]
	seq, exists := x.m.byID[s.ID]
	switch {
	case removed && final.Digest == s.Digest():
		if got.Final == nil || *got.Final != final {
			t.Fatalf("submitting %s after retention: %+v", s.ID, got)
		}
	case exists && x.m.tasks[seq].Spec.Digest() == s.Digest():
		if !got.Existing || got.Task.Seq != seq {
			t.Fatalf("submitting %s again: %+v", s.ID, got)
		}
	case removed || exists:
		if task.CodeOf(got.Err) != task.CodeConflict {
			t.Fatalf("submitting other content as %s: %+v", s.ID, got)
		}
	default:
		if got.Err != nil || got.Existing {
			t.Fatalf("submitting %s: %+v", s.ID, got)
		}
		x.m.submit(got.Task.Spec)
	}
}

var modelEvents = []task.EventKind{
	task.EventPlaced, task.EventPlaced, task.EventLaunched, task.EventStarted, task.EventExited, task.EventExited,
	task.EventNotStarted, task.EventStopping, task.EventStopped, task.EventVanished, task.EventRetried,
	task.EventCancelAsked, task.EventNoted, task.EventHeld, task.EventCancelled, task.EventRefused,
}

// Apply sends a few events to random tasks, illegal and late ones included.
func (x *machine) Apply(t *rapid.T) {
	if x.m.last == 0 {
		t.Skip("no tasks")
	}
	var changes []task.Change
	for range rapid.IntRange(1, 6).Draw(t, "events") {
		seq := task.Seq(rapid.Uint64Range(1, uint64(x.m.last)).Draw(t, "seq"))
		changes = append(changes, task.Change{Seq: seq, Event: task.Event{
			Kind:    rapid.SampledFrom(modelEvents).Draw(t, "kind"),
			At:      x.m.now,
			Attempt: max(x.m.tasks[seq].Attempt()-rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "late"), 1),
			Text:    rapid.SampledFrom([]string{"", "why"}).Draw(t, "text"),
			Lease:   task.Lease{CPUMilli: 1000},
			Outcome: task.Outcome{ExitCode: rapid.IntRange(0, 1).Draw(t, "code")},
		}})
	}
	answers, err := x.q.Apply(context.Background(), changes)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	for i, c := range changes {
		if _, ok := x.m.tasks[c.Seq]; !ok {
			if !errors.Is(answers[i].Err, queue.ErrNotFound) {
				t.Fatalf("apply to removed task: %v", answers[i].Err)
			}
			continue
		}
		if want := x.m.step(c.Seq, c.Event); (want == nil) != (answers[i].Err == nil) {
			t.Fatalf("%s on %d: got %v, want %v", c.Event.Kind, c.Seq, answers[i].Err, want)
		}
	}
}

// Advance lets time pass and does what it brings.
func (x *machine) Advance(t *rapid.T) {
	x.clock.advance(time.Duration(rapid.IntRange(0, 3).Draw(t, "seconds")) * time.Second)
	x.m.now = x.clock.instant()
	for more := true; more; {
		var err error
		if _, more, err = x.q.Advance(context.Background(), x.m.now); err != nil {
			t.Fatalf("advance: %v", err)
		}
	}
	x.m.advance()
}

// Pause pauses a class, or resumes it.
func (x *machine) Pause(t *rapid.T) {
	class := rapid.SampledFrom([]string{"cpu", "gpu"}).Draw(t, "class")
	had, was := x.m.paused[class]
	if rapid.Bool().Draw(t, "resume") {
		got, ok, err := x.q.Resume(context.Background(), class)
		if err != nil || ok != was || got != had {
			t.Fatalf("resume %s: %+v %v %v, want %+v %v", class, got, ok, err, had, was)
		}
		delete(x.m.paused, class)
		return
	}
	p := task.Pause{At: x.m.now, By: "me", Reason: rapid.SampledFrom([]string{"", "why"}).Draw(t, "reason")}
	got, already, err := x.q.Pause(context.Background(), class, p)
	if !was {
		had = p
	}
	if err != nil || already != was || got != had {
		t.Fatalf("pause %s: %+v %v %v, want %+v %v", class, got, already, err, had, was)
	}
	x.m.paused[class] = had
}

// Expire removes what ended an hour ago, now and then.
func (x *machine) Expire(t *rapid.T) {
	x.clock.advance(time.Duration(rapid.SampledFrom([]int{0, 0, 20, 61}).Draw(t, "minutes")) * time.Minute)
	x.m.now = x.clock.instant()
	var got []task.Ref
	for more := true; more; {
		var removed []task.Ref
		var err error
		if removed, more, err = x.q.Expire(context.Background(), x.m.now); err != nil {
			t.Fatalf("expire: %v", err)
		}
		got = append(got, removed...)
	}
	want := x.m.expire(x.m.now.Add(-modelAge))
	bySeq := func(a, b task.Ref) int { return cmp.Compare(a.Seq, b.Seq) }
	slices.SortFunc(got, bySeq)
	slices.SortFunc(want, bySeq)
	if !slices.Equal(got, want) {
		t.Fatalf("expire removed %v, want %v", got, want)
	}
}

// Crash goes on with a copy of the database as it is on disk at this moment.
func (x *machine) Crash(t *rapid.T) {
	old := x.dir()
	x.dirs++
	if err := os.CopyFS(x.dir(), os.DirFS(old)); err != nil {
		t.Fatalf("copy: %v", err)
	}
	abandoned := x.q
	x.open(t, x.dir())
	if err := abandoned.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// Reopen closes the queue and opens it again.
func (x *machine) Reopen(t *rapid.T) {
	x.close(t)
	x.open(t, x.dir())
}
