package api_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
	"github.com/dspy-agent/dspy-agent/queue"
)

// piecemeal reads want results from streams that break after every few, each
// resumed behind the last, and returns what came, as "id attempt".
func (f *fixture) piecemeal(req *pb.StreamTaskResultsRequest, want int, few func() int) (got []string) {
	f.t.Helper()
	for len(got) < want {
		s := f.results(req)
		for range min(few(), want-len(got)) {
			r := recv(f.t, s)
			got = append(got, fmt.Sprint(r.GetTaskId(), " ", r.GetAttempt()))
			if r.GetIndex() <= req.GetAfterIndex() {
				f.t.Fatalf("the result of %s has index %d behind %d", r.GetTaskId(), r.GetIndex(), req.GetAfterIndex())
			}
			req.AfterIndex = r.GetIndex()
		}
	}
	return got
}

// TestChosenResultsResumeAnywhere breaks streams among the ends of the past, at
// their border and behind it: each end comes once, and in order.
func TestChosenResultsResumeAnywhere(t *testing.T) {
	for name, keep := range map[string]queue.Retention{
		"the log has all ends":  {},
		"the log has some ends": {EventMax: 30},
		"the log has no end":    {EventAge: time.Nanosecond},
		"tasks were removed":    {Count: 5},
		"both":                  {Count: 5, EventMax: 30},
	} {
		t.Run(name, func(t *testing.T) {
			f := setupKeeping(t, keep)
			const n = 12
			var ids, want []string
			for i := range n {
				ids = append(ids, fmt.Sprintf("t%02d", i))
				f.submit(ids[i])
			}
			ended := slices.Clone(ids)
			if keep.EventMax == 0 && keep.EventAge == 0 { // else those without a record come in the order of submission
				rand.Shuffle(n, func(i, j int) { ended[i], ended[j] = ended[j], ended[i] })
			}
			for _, id := range ended {
				f.begin(id)
				f.end(id, 1, "")
			}
			f.submit("other")
			for _, id := range ended {
				want = append(want, id+" 1")
			}
			f.expire()
			for few := 1; few <= n; few++ {
				req := &pb.StreamTaskResultsRequest{TaskIds: ids, IncludeCompleted: true}
				got := f.piecemeal(req, n, func() int { return few })
				if !sameEnds(got, want) {
					t.Fatalf("%d at a time: got %v, want %v", few, got, want)
				}
				wantEOF(t, f.results(req))
			}
		})
	}
}

// sameEnds compares, but for the attempt of what retention has left nothing of
// but the outcome.
func sameEnds(got, want []string) bool {
	return slices.EqualFunc(got, want, func(g, w string) bool { return g == w || g == w[:len(w)-1]+"0" })
}

// TestChosenResultsGoOnBehindThePast: what ends while a client is away comes when
// it is back, whether or not it asked for what had ended before.
func TestChosenResultsGoOnBehindThePast(t *testing.T) {
	for _, include := range []bool{true, false} {
		f := setup(t)
		f.run("a", 0, "")
		f.submit("b")
		f.submit("c")
		f.submit("d")
		req := &pb.StreamTaskResultsRequest{TaskIds: []string{"a", "b", "c", "d"}, IncludeCompleted: include}
		s := f.results(req)
		if include {
			if r := recv(t, s); r.GetTaskId() != "a" {
				t.Fatalf("got %v", r)
			}
		}
		f.begin("b")
		f.end("b", 0, "")
		req.AfterIndex = recv(t, s).GetIndex()
		f.begin("c")
		f.end("c", 1, "")
		if _, err := f.RetryTask(f.ctx, &pb.RetryTaskRequest{TaskId: "c"}); err != nil {
			t.Fatal(err)
		}
		f.begin("d")
		f.end("d", 0, "")
		f.begin("c")
		if got := f.piecemeal(req, 2, func() int { return 1 }); !slices.Equal(got, []string{"c 1", "d 1"}) {
			t.Errorf("got %v", got)
		}
		s = f.results(req)
		f.end("c", 0, `{"n":2}`)
		if r := recv(t, s); r.GetTaskId() != "c" || r.GetAttempt() != 2 || r.GetResult()["n"] != "2" {
			t.Errorf("got %v", r)
		}
		wantEOF(t, s)
	}
}

// TestStreamThatBreaksBeforeItsFirstResult: the header of the answer says where it
// began.
func TestStreamThatBreaksBeforeItsFirstResult(t *testing.T) {
	f := setup(t)
	f.run("a", 0, "")
	header, err := f.results(&pb.StreamTaskResultsRequest{}).Header()
	if err != nil {
		t.Fatal(err)
	}
	ofEvents, err := f.events(&pb.StreamEventsRequest{}).Header()
	if err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprint(f.q.LastIndex())
	if got, events := header.Get("after-index"), ofEvents.Get("after-index"); !slices.Equal(got, []string{at}) || !slices.Equal(events, got) {
		t.Errorf("the streams began behind %v and %v, not %s", got, events, at)
	}
}

// TestResultOfARemovedTask: what is still known of it is told, as far as the event
// log goes, and behind that what its tombstone says.
func TestResultOfARemovedTask(t *testing.T) {
	for name, tc := range map[string]struct {
		keep    queue.Retention
		attempt int32
	}{
		"in the log":      {queue.Retention{Count: 1}, 1},
		"tombstone alone": {queue.Retention{Count: 1, EventAge: time.Nanosecond}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := setupKeeping(t, tc.keep)
			f.run("gone", 3, "")
			f.run("there", 0, "")
			f.expire()
			ids := []string{"gone", "there"}
			s := f.results(&pb.StreamTaskResultsRequest{TaskIds: ids, IncludeCompleted: true})
			r := recv(t, s)
			if r.GetTaskId() != "gone" || r.GetState() != "failed" || r.GetStatus() != "failed" || r.GetError() == "" || r.GetCompletedAt() == 0 || r.GetAttempt() != tc.attempt {
				t.Errorf("got %v", r)
			}
			if r := recv(t, s); r.GetTaskId() != "there" || r.GetStatus() != "completed" {
				t.Errorf("got %v", r)
			}
			wantEOF(t, s)
			wantEOF(t, f.results(&pb.StreamTaskResultsRequest{TaskIds: ids}))
		})
	}
}

// TestStreamsOverALogThatIsEmpty: retention may have removed every record of a
// queue in which nothing happened for long.
func TestStreamsOverALogThatIsEmpty(t *testing.T) {
	f := setupKeeping(t, queue.Retention{EventAge: time.Nanosecond})
	f.run("a", 0, "")
	f.expire()
	all := f.results(&pb.StreamTaskResultsRequest{IncludeCompleted: true})
	since := f.events(&pb.StreamEventsRequest{SinceTimestamp: 1})
	late, err := f.StreamTaskResults(f.ctx, &pb.StreamTaskResultsRequest{AfterIndex: 1})
	if err == nil {
		_, err = late.Recv()
	}
	wantCode(t, err, task.CodeConflict)
	f.run("b", 0, "")
	if r := recv(t, all); r.GetTaskId() != "b" {
		t.Errorf("got %v", r)
	}
	wantEvents(t, since, "task_submitted b")
}
