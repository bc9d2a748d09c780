package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// results opens a stream, and returns once nothing will be missed any more.
func (f *fixture) results(req *pb.StreamTaskResultsRequest) pb.OrchestratorService_StreamTaskResultsClient {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.ctx)
	f.t.Cleanup(cancel)
	s, err := f.StreamTaskResults(ctx, req)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := s.Header(); err != nil {
		f.t.Fatal(err)
	}
	return s
}

func TestResultsFromNowOn(t *testing.T) {
	f := setup(t)
	f.run("before", 0, "")
	s := f.results(&pb.StreamTaskResultsRequest{})
	f.run("a", 0, `{"n":1}`)
	f.run("b", 2, "")
	a := recv(t, s)
	if a.GetTaskId() != "a" || a.GetStatus() != "completed" || a.GetResult()["n"] != "1" || a.GetIndex() == 0 || a.GetCompletedAt() == 0 {
		t.Errorf("got %v", a)
	}
	b := recv(t, s)
	if b.GetTaskId() != "b" || b.GetStatus() != "failed" || b.GetExitCode() != 2 || b.GetFailureClass() != "user_error" || b.GetIndex() <= a.GetIndex() {
		t.Errorf("got %v", b)
	}
}

func TestResultsReplayAndResume(t *testing.T) {
	f := setup(t)
	var want []string
	for i := range 20 {
		id := fmt.Sprintf("t%02d", i)
		f.run(id, i%3, "")
		want = append(want, id)
	}
	// A new stream for every few results, each resumed behind the last.
	var got []string
	req := &pb.StreamTaskResultsRequest{IncludeCompleted: true}
	for len(got) < len(want) {
		s := f.results(req)
		for range min(3, len(want)-len(got)) {
			r := recv(t, s)
			got = append(got, r.GetTaskId())
			req.AfterIndex = r.GetIndex()
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestResultsOfChosenTasksEnd(t *testing.T) {
	f := setup(t)
	f.run("done", 0, `{"n":1}`)
	f.submit("coming")
	f.submit("other")
	chosen := []string{"done", "coming", "done"}

	replayed := f.results(&pb.StreamTaskResultsRequest{TaskIds: chosen, IncludeCompleted: true})
	fresh := f.results(&pb.StreamTaskResultsRequest{TaskIds: chosen})
	if r := recv(t, replayed); r.GetTaskId() != "done" || r.GetResult()["n"] != "1" {
		t.Errorf("got %v", r)
	}
	f.begin("other")
	f.end("other", 0, "")
	f.begin("coming")
	f.end("coming", 0, "")
	for _, s := range []pb.OrchestratorService_StreamTaskResultsClient{replayed, fresh} {
		if r := recv(t, s); r.GetTaskId() != "coming" {
			t.Errorf("got %v", r)
		}
		wantEOF(t, s)
	}
	// All have ended already.
	wantEOF(t, f.results(&pb.StreamTaskResultsRequest{TaskIds: chosen}))
	again := f.results(&pb.StreamTaskResultsRequest{TaskIds: chosen, IncludeCompleted: true})
	recv(t, again)
	recv(t, again)
	wantEOF(t, again)
}

func TestResultsOfChosenTasksResume(t *testing.T) {
	f := setup(t)
	f.run("a", 0, "")
	at := f.q.LastIndex()
	f.run("b", 0, "")
	f.run("c", 0, "")
	s := f.results(&pb.StreamTaskResultsRequest{TaskIds: []string{"a", "b"}, AfterIndex: at})
	if r := recv(t, s); r.GetTaskId() != "b" {
		t.Errorf("got %v", r)
	}
	wantEOF(t, s)
}

func TestResultOfEachEnding(t *testing.T) {
	f := setup(t)
	f.run("a", 1, "")
	s := f.results(&pb.StreamTaskResultsRequest{IncludeCompleted: true})
	if r := recv(t, s); r.GetStatus() != "failed" || r.GetAttempt() != 1 {
		t.Errorf("got %v", r)
	}
	if _, err := f.RetryTask(f.ctx, &pb.RetryTaskRequest{TaskId: "a"}); err != nil {
		t.Fatal(err)
	}
	f.begin("a")
	f.end("a", 0, `{"n":2}`)
	if r := recv(t, s); r.GetStatus() != "completed" || r.GetAttempt() != 2 || r.GetResult()["n"] != "2" {
		t.Errorf("got %v", r)
	}
	// The first end is still told as it was, though the task has moved on.
	late := f.results(&pb.StreamTaskResultsRequest{IncludeCompleted: true})
	if r := recv(t, late); r.GetStatus() != "failed" || r.GetAttempt() != 1 || r.GetExitCode() != 1 || r.GetResult()["n"] != "" {
		t.Errorf("got %v", r)
	}
}

func TestRetriedAttemptIsNoResult(t *testing.T) {
	f := setup(t)
	if _, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Id: "a", Spec: &pb.TaskSpec{Argv: []string{"x"}, Retries: 1, BackoffMs: 1}}); err != nil {
		t.Fatal(err)
	}
	s := f.results(&pb.StreamTaskResultsRequest{TaskIds: []string{"a"}})
	f.begin("a")
	f.end("a", 1, "")
	if _, err := f.CancelTask(f.ctx, &pb.CancelTaskRequest{TaskId: "a"}); err != nil {
		t.Fatal(err)
	}
	if r := recv(t, s); r.GetState() != "cancelled" || r.GetAttempt() != 2 || r.GetStatus() != "failed" {
		t.Errorf("got %v", r)
	}
	wantEOF(t, s)
}

func TestStreamsRefuse(t *testing.T) {
	f := setup(t)
	f.run("a", 0, "")
	first := func(s interface {
		Recv() (*pb.TaskResult, error)
	}, err error) error {
		if err != nil {
			return err
		}
		_, err = s.Recv()
		return err
	}
	err := first(f.StreamTaskResults(f.ctx, &pb.StreamTaskResultsRequest{TaskIds: []string{"a", "x", "y"}}))
	wantCode(t, err, task.CodeNotFound)
	wantWords(t, err, "x, y")
	wantCode(t, first(f.StreamTaskResults(f.ctx, &pb.StreamTaskResultsRequest{AfterIndex: 1 << 40})), task.CodeInvalid)
	events, err := f.StreamEvents(f.ctx, &pb.StreamEventsRequest{AfterIndex: 1 << 40})
	if err == nil {
		_, err = events.Recv()
	}
	wantCode(t, err, task.CodeInvalid)
}

// events opens a stream, and returns once nothing will be missed any more.
func (f *fixture) events(req *pb.StreamEventsRequest) pb.OrchestratorService_StreamEventsClient {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.ctx)
	f.t.Cleanup(cancel)
	s, err := f.StreamEvents(ctx, req)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := s.Header(); err != nil {
		f.t.Fatal(err)
	}
	return s
}

func wantEvents(t *testing.T, s pb.OrchestratorService_StreamEventsClient, want ...string) (last *pb.SystemEvent) {
	t.Helper()
	for _, w := range want {
		last = recv(t, s)
		if got := last.GetEventType() + " " + last.GetResourceId(); got != w {
			t.Fatalf("got event %q, want %q", got, w)
		}
	}
	return last
}

func TestEvents(t *testing.T) {
	f := setup(t)
	since := time.Now().Unix()
	f.run("a", 0, "")
	now := f.events(&pb.StreamEventsRequest{})
	f.run("b", 1, "")
	f.submit("c")
	if _, err := f.CancelTask(f.ctx, &pb.CancelTaskRequest{TaskId: "c"}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.RetryTask(f.ctx, &pb.RetryTaskRequest{TaskId: "b"}); err != nil {
		t.Fatal(err)
	}
	ofA := []string{"task_submitted a", "task_started a", "task_completed a"}
	rest := []string{"task_submitted b", "task_started b", "task_failed b", "task_submitted c", "task_cancelled c", "task_retrying b"}
	wantEvents(t, now, rest...)
	all := f.events(&pb.StreamEventsRequest{SinceTimestamp: since})
	e := wantEvents(t, all, ofA...)
	if e.GetTimestamp() < since || e.GetTimestampNs()/1e9 != e.GetTimestamp() || e.GetData()["exit_code"] != "0" || e.GetData()["class"] != "cpu_short" {
		t.Errorf("got %v", e)
	}
	wantEvents(t, all, rest...)
	wantEvents(t, f.events(&pb.StreamEventsRequest{AfterIndex: e.GetIndex()}), rest...)
	wantEvents(t, f.events(&pb.StreamEventsRequest{SinceTimestamp: since, EventTypes: []string{"task_failed", "task_cancelled"}}), "task_failed b", "task_cancelled c")
}

// TestSlowReader lets a stream stand still while thousands of tasks are accepted
// and a second stream reads them all.
func TestSlowReader(t *testing.T) {
	f := setup(t)
	slow := f.events(&pb.StreamEventsRequest{})
	quick := f.events(&pb.StreamEventsRequest{})
	const n, rounds = 200, 15
	for round := range rounds {
		req := &pb.SubmitTasksRequest{}
		for i := range n {
			req.Tasks = append(req.Tasks, &pb.SubmitTaskRequest{Id: fmt.Sprintf("t%d-%d", round, i)})
		}
		if _, err := f.SubmitTasks(f.ctx, req); err != nil {
			t.Fatal(err)
		}
	}
	for range n * rounds {
		recv(t, quick)
	}
	var last uint64
	for range n * rounds {
		e := recv(t, slow)
		if last != 0 && e.GetIndex() != last+1 {
			t.Fatalf("index %d came after %d", e.GetIndex(), last)
		}
		last = e.GetIndex()
	}
}

// TestAReaderThatTakesNothingIsCutOff has a stream stand still for longer than it
// may: it is ended, and its reader comes back and has missed nothing.
func TestAReaderThatTakesNothingIsCutOff(t *testing.T) {
	cut := make(logged, 64)
	f := setup(t, func(o *api.Options) {
		o.SendTimeout = 300 * time.Millisecond
		o.Logger = slog.New(cut)
	})
	// Together more than fits on the way; one round fits, so that the other stream
	// does not stand still while it is written.
	const n, rounds = 50, 120
	slow := f.events(&pb.StreamEventsRequest{})
	quick := f.events(&pb.StreamEventsRequest{})
	for round := range rounds {
		req := &pb.SubmitTasksRequest{}
		for i := range n {
			req.Tasks = append(req.Tasks, &pb.SubmitTaskRequest{Id: fmt.Sprintf("%s-%d-%d", strings.Repeat("t", 100), round, i)})
		}
		if _, err := f.SubmitTasks(f.ctx, req); err != nil {
			t.Fatal(err)
		}
		for range n {
			recv(t, quick)
		}
	}
	cut.await("slow reader cut off")
	var last uint64
	for {
		e, err := slow.Recv()
		if err != nil {
			if status.Code(err) != codes.ResourceExhausted {
				t.Fatalf("the stream ended with %v", err)
			}
			break
		}
		if last != 0 && e.GetIndex() != last+1 {
			t.Fatalf("index %d came after %d", e.GetIndex(), last)
		}
		last = e.GetIndex()
	}
	if last == 0 || last >= n*rounds {
		t.Fatalf("the reader was cut off behind index %d of %d", last, n*rounds)
	}
	again := f.events(&pb.StreamEventsRequest{AfterIndex: last})
	for last < n*rounds {
		e, err := again.Recv()
		if status.Code(err) == codes.ResourceExhausted { // this machine is so slow that it was cut off, too
			again = f.events(&pb.StreamEventsRequest{AfterIndex: last})
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.GetIndex() != last+1 {
			t.Fatalf("index %d came after %d", e.GetIndex(), last)
		}
		last = e.GetIndex()
	}
}

// logged is a logger whose lines a test can wait for.
type logged chan string

func (l logged) await(line string) {
	for said := range l {
		if said == line {
			return
		}
	}
}

func (l logged) Enabled(context.Context, slog.Level) bool { return true }
func (l logged) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l logged) WithGroup(string) slog.Handler            { return l }

func (l logged) Handle(_ context.Context, r slog.Record) error {
	select {
	case l <- r.Message:
	default: // nobody waits
	}
	return nil
}
