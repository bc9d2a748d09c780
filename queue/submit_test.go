package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

func TestSameIDAgain(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	first := submit(t, q, spec("a"))[0]
	other := spec("a")
	other.Argv = []string{"false"}
	answers, err := q.Submit(context.Background(), []*task.Spec{spec("a"), other, spec("a")})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 2} {
		if !answers[i].Existing || answers[i].Task.Seq != first.Seq {
			t.Errorf("again: %+v", answers[i])
		}
	}
	if task.CodeOf(answers[1].Err) != task.CodeConflict {
		t.Errorf("other content: %v", answers[1].Err)
	}
}

func TestSubmitWithoutID(t *testing.T) {
	t.Parallel()
	c := newClock()
	q := openQueue(t, queue.Options{Now: c.now})
	s := spec("")
	tasks := submit(t, q, s, s)
	a, b := tasks[0].Spec, tasks[1].Spec
	if len(a.ID) != 26 || a.ID >= b.ID {
		t.Errorf("made ids %s and %s", a.ID, b.ID)
	}
	if a.SubmittedAt != c.instant() || s.ID != "" || s.SubmittedAt != 0 {
		t.Errorf("submitted at %v; the caller's spec is %+v", a.SubmittedAt, s)
	}
	again := submit(t, q, spec(a.ID))[0] // a made id is one like any other
	if again.Seq != tasks[0].Seq {
		t.Errorf("%s is task %d, and was %d", a.ID, again.Seq, tasks[0].Seq)
	}
}

func TestSubmitAnswersEachSpec(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	bad, unprintable := spec("bad id"), spec("image")
	unprintable.Image = "\xff"
	answers, err := q.Submit(context.Background(), []*task.Spec{spec("a"), bad, unprintable, spec("b")})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false, false, true} {
		if (answers[i].Err == nil) != want {
			t.Errorf("answer %d: %v", i, answers[i].Err)
		}
		if !want && task.CodeOf(answers[i].Err) != task.CodeInvalid {
			t.Errorf("answer %d has code %s", i, task.CodeOf(answers[i].Err))
		}
	}
	if got := q.Counts().Total(task.Pending); got != 2 {
		t.Errorf("%d tasks wait", got)
	}
}

func TestMaxWaiting(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{MaxWaiting: 3})
	answers, err := q.Submit(context.Background(), numbered("a", 0, 5))
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range answers {
		if full := task.CodeOf(a.Err) == task.CodeExhausted && errors.Is(a.Err, queue.ErrFull); full != (i >= 3) {
			t.Errorf("answer %d: %v", i, a.Err)
		}
	}
	if last := q.LastIndex(); last != 3 {
		t.Errorf("the event log has %d records: something was stored of what was refused", last)
	}
	// What exists is answered all the same, and room that is made is used.
	again, err := q.Submit(context.Background(), numbered("a", 0, 1))
	if err != nil || !again[0].Existing {
		t.Errorf("again: %+v %v", again, err)
	}
	apply(t, q, 1, placed)
	submit(t, q, spec("b"))
}

// TestGroupCommit: calls that come together share transactions, and all of them
// are answered.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	const callers, each = 32, 20
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				submitted, err := q.Submit(context.Background(), []*task.Spec{spec(fmt.Sprintf("%d-%d", c, i))})
				if err != nil || submitted[0].Err != nil {
					t.Errorf("submit: %v %v", submitted, err)
					return
				}
				if _, err := q.Lookup(submitted[0].Task.Spec.ID); err != nil {
					t.Errorf("an acknowledged task is not found: %v", err)
				}
			}
		})
	}
	wg.Wait()
	st, err := q.Stats()
	if err != nil || st.Counts.Total(task.Pending) != callers*each {
		t.Fatalf("stats %+v %v", st, err)
	}
	if st.Commits > callers*each/2 {
		t.Errorf("%d commits for %d submissions", st.Commits, callers*each)
	}
}

func TestSubmitAfterClose(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	closeQueue(t, q)
	_, err := q.Submit(context.Background(), []*task.Spec{spec("a")})
	if !errors.Is(err, queue.ErrClosed) || task.CodeOf(err) != task.CodeUnavailable {
		t.Errorf("submit: %v", err)
	}
}

func TestCancelledCallStoresNothing(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := q.Submit(ctx, []*task.Spec{spec("a")}); !errors.Is(err, context.Canceled) {
		t.Errorf("submit: %v", err)
	}
	if _, err := q.Lookup("a"); !errors.Is(err, queue.ErrNotFound) || task.CodeOf(err) != task.CodeNotFound {
		t.Errorf("lookup: %v", err)
	}
}

func TestHeadsKeepTheLine(t *testing.T) {
	t.Parallel()
	c := newClock()
	q := openQueue(t, queue.Options{Now: c.now})
	low, high, image := spec("low"), spec("high"), spec("image")
	high.Priority, image.Image = 1_000_000, "some/image" // so high that its Order is before 1970
	low.Timeout = time.Minute
	submit(t, q, low, image, high)
	heads, err := headsOf(q, 5)
	if err != nil || len(heads) != 3 {
		t.Fatalf("%+v %v", heads, err)
	}
	var ids []string
	for _, h := range heads {
		ids = append(ids, h.ID)
	}
	if got := strings.Join(ids, " "); got != "high low image" {
		t.Errorf("line: %s", got)
	}
	if heads[1].Since != c.instant() || heads[1].Shape != low.Shape() {
		t.Errorf("head %+v", heads[1])
	}
	if one, err := headsOf(q, 1); err != nil || len(one) != 2 {
		t.Errorf("one head of each shape: %+v %v", one, err)
	}
}

func TestEmptyShapesAreForgotten(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	for i := range 20 {
		s := spec(fmt.Sprintf("t%d", i))
		s.Image = fmt.Sprintf("image:%d", i)
		apply(t, q, submit(t, q, s)[0].Seq, placed)
	}
	if st, err := q.Stats(); err != nil || st.Shapes != 0 {
		t.Errorf("%d shapes are kept (%v)", st.Shapes, err)
	}
}

// TestManyIDs submits more than the newest ids that memory holds, so that some
// are in runs, and finds each before and after an opening and retention.
func TestManyIDs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newClock()
	opts := queue.Options{Dir: dir, Now: c.now, Retention: queue.Retention{Age: time.Hour}}
	q := openQueue(t, opts)
	const n, chunk = 12_000, 500
	for from := 0; from < n; from += chunk {
		submit(t, q, numbered("id", from, chunk)...)
	}
	again := func(q *queue.Queue) {
		t.Helper()
		for from := 0; from < n; from += chunk {
			answers, err := q.Submit(context.Background(), numbered("id", from, chunk))
			if err != nil {
				t.Fatal(err)
			}
			for i, a := range answers {
				if !a.Existing || a.Final == nil && a.Task.Seq != task.Seq(from+i+1) || a.Final != nil && a.Final.Seq != task.Seq(from+i+1) {
					t.Fatalf("task %d again: %+v", from+i+1, a)
				}
			}
		}
	}
	again(q)
	closeQueue(t, q)
	q = openQueue(t, opts)
	again(q)
	end := make([]task.Change, 0, n/2)
	for seq := range task.Seq(n / 2) {
		end = append(end, task.Change{Seq: 2*seq + 1, Event: task.Event{Kind: task.EventCancelled, At: c.instant(), Attempt: 1}})
	}
	if _, err := q.Apply(context.Background(), end); err != nil {
		t.Fatal(err)
	}
	c.advance(2 * time.Hour)
	removed := 0
	for more := true; more; {
		refs, m, err := q.Expire(context.Background(), c.instant())
		if err != nil {
			t.Fatal(err)
		}
		removed, more = removed+len(refs), m
	}
	if removed != n/2 {
		t.Errorf("%d were removed", removed)
	}
	again(q)
}
