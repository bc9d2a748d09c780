package queue_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

func after(id string, when task.Condition, deps ...string) *task.Spec {
	s := spec(id)
	for _, d := range deps {
		s.After = append(s.After, task.Dep{ID: d, When: when})
	}
	return s
}

func TestDependantsAreReleasedOrRefused(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	tasks := submit(t, q, spec("a"), after("ok", task.AfterOK, "a"), after("any", task.AfterAny, "a"),
		after("notok", task.AfterNotOK, "a"), after("later", task.AfterOK, "ok"))
	apply(t, q, tasks[0].Seq, placed, launched, started, failed)
	advance(t, q, later)
	states := map[string]task.State{"ok": task.Failed, "any": task.Pending, "notok": task.Pending, "later": task.Failed}
	for id, want := range states {
		got, err := q.Lookup(id)
		if err != nil || got.State() != want || got.Status().Blocked != 0 && want == task.Pending {
			t.Errorf("%s is %s, want %s (%v)", id, got.State(), want, err)
		}
	}
	refused, err := q.Lookup("ok")
	if err != nil {
		t.Fatal(err)
	}
	const text = "waits for a to succeed, but a failed (ended with exit code 3)"
	if o := refused.Status().Outcome; o.Message != text || o.Class != task.DependencyFailed {
		t.Errorf("refused with %+v, want %q", o, text)
	}
}

func TestSubmitAfterTheEnd(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	tasks := submit(t, q, spec("a"))
	apply(t, q, tasks[0].Seq, placed, launched, started, failed)
	tasks = submit(t, q, after("ok", task.AfterOK, "a"), after("any", task.AfterAny, "a"))
	if tasks[0].State() != task.Failed || tasks[1].State() != task.Pending || tasks[1].Status().Blocked != 0 {
		t.Errorf("states %s and %s", tasks[0].State(), tasks[1].State())
	}
	answers, err := q.Submit(context.Background(), []*task.Spec{after("x", task.AfterOK, "nobody")})
	if err != nil || task.CodeOf(answers[0].Err) != task.CodeInvalid {
		t.Fatalf("unknown dependency: %v %v", answers, err)
	}
	if msg := answers[0].Err.Error(); !strings.Contains(msg, "nobody") {
		t.Errorf("it does not name the unknown: %s", msg)
	}
}

func TestRetryWaitsAgain(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	tasks := submit(t, q, spec("a"), after("b", task.AfterOK, "a"))
	a, b := tasks[0].Seq, tasks[1].Seq
	apply(t, q, a, placed, launched, started, failed)
	advance(t, q, later)
	retry := task.Event{Kind: task.EventRetried, By: "me"}
	retry.Attempt = 1
	answers, err := q.Apply(context.Background(), []task.Change{{Seq: b, Event: retry}})
	if err != nil || task.CodeOf(answers[0].Err) != task.CodeConflict || answers[0].Task.Attempt() != 1 {
		t.Fatalf("a retry while a has failed: %+v %v", answers, err)
	}
	if msg := answers[0].Err.Error(); !strings.Contains(msg, "waits for a to succeed, but a failed") {
		t.Errorf("it does not say why: %s", msg)
	}
	apply(t, q, a, retry)
	if got := apply(t, q, b, retry); got.State() != task.Pending || got.Status().Blocked != 1 {
		t.Errorf("b is %s, blocked by %d, after a was retried", got.State(), got.Status().Blocked)
	}
	apply(t, q, a, placed, launched, started, succeeded)
	advance(t, q, later)
	if heads, err := headsOf(q, 1); err != nil || len(heads) != 1 || heads[0].Seq != b {
		t.Errorf("heads %+v (%v)", heads, err)
	}
}

// TestManyDependants releases more than one transaction takes, and is cut off
// in between.
func TestManyDependants(t *testing.T) {
	t.Parallel()
	const n = 1700
	dir := t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir})
	root := submit(t, q, spec("root"))[0].Seq
	specs := make([]*task.Spec, n)
	for i := range specs {
		specs[i] = after(fmt.Sprintf("leaf-%d", i), task.AfterOK, "root")
	}
	submit(t, q, specs...)
	apply(t, q, root, placed, launched, started, succeeded)
	if _, more, err := q.Advance(context.Background(), later); err != nil || !more {
		t.Fatalf("one step releases all: %v %v", more, err)
	}
	if got := q.LastIndex(); got >= n+1+4+n {
		t.Errorf("one step makes %d records", got)
	}
	closeQueue(t, q)
	q = openQueue(t, queue.Options{Dir: dir})
	advance(t, q, later)
	heads, err := headsOf(q, 2*n)
	if err != nil || len(heads) != n {
		t.Errorf("%d are ready, want %d (%v)", len(heads), n, err)
	}
}

func TestOnlyTheQueueReleases(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	tasks := submit(t, q, spec("a"), after("b", task.AfterOK, "a"))
	answers, err := q.Apply(context.Background(), []task.Change{{Seq: tasks[1].Seq, Event: task.Event{Kind: task.EventDepEnded, Attempt: 1}}})
	if err != nil || answers[0].Err == nil {
		t.Errorf("a foreign release is taken: %v %v", answers, err)
	}
}
