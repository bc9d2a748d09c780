package api_test

import (
	"context"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (f *fixture) logs(req *pb.StreamLogsRequest) pb.OrchestratorService_StreamLogsClient {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.ctx)
	f.t.Cleanup(cancel)
	s, err := f.StreamLogs(ctx, req)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// readText reads until it has so many bytes, and returns them with the last chunk.
func readText(t *testing.T, s pb.OrchestratorService_StreamLogsClient, n int) (string, *pb.LogChunk) {
	t.Helper()
	var b strings.Builder
	var last *pb.LogChunk
	for b.Len() < n || last == nil {
		last = recv(t, s)
		b.Write(last.GetData())
	}
	return b.String(), last
}

func TestLogs(t *testing.T) {
	f := setup(t)
	f.submit("a")
	f.begin("a")
	f.out.add(f.lookup("a").Ref(), "one\ntwo\n\xffthree\n")

	s := f.logs(&pb.StreamLogsRequest{TaskId: "a"})
	if first := recv(t, s); first.GetTaskId() != "a" || first.GetAttempt() != 1 {
		t.Errorf("got %v", first)
	}
	if got, _ := readText(t, s, 15); got != "one\ntwo\n\xffthree\n" {
		t.Errorf("got %q", got)
	}
	wantEOF(t, s)

	tail := f.logs(&pb.StreamLogsRequest{Tail: 1})
	got, last := readText(t, tail, 7)
	if got != "\xffthree\n" || last.GetNextOffset() != 15 {
		t.Errorf("got %q, offset %d", got, last.GetNextOffset())
	}
	wantEOF(t, tail)

	rest := f.logs(&pb.StreamLogsRequest{TaskId: "a", Offset: 4})
	if got, _ := readText(t, rest, 11); got != "two\n\xffthree\n" {
		t.Errorf("got %q", got)
	}
}

func TestFollowLogsToTheEndOfTheTask(t *testing.T) {
	f := setup(t)
	if _, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Id: "a", Spec: &pb.TaskSpec{Argv: []string{"x"}, Retries: 1, BackoffMs: 1}}); err != nil {
		t.Fatal(err)
	}
	s := f.logs(&pb.StreamLogsRequest{TaskId: "a", Follow: true}) // before it begins
	f.begin("a")
	first := f.lookup("a").Ref()
	f.out.add(first, "hello ")
	if got, _ := readText(t, s, 6); got != "hello " {
		t.Errorf("got %q", got)
	}
	f.out.add(first, "world")
	f.end("a", 1, "") // and is tried again
	if got, _ := readText(t, s, 5); got != "world" {
		t.Errorf("got %q", got)
	}
	// The next attempt begins in a stream that a reader has resumed.
	resumed := f.logs(&pb.StreamLogsRequest{TaskId: "a", Follow: true, Attempt: 1, Offset: 6})
	if got, _ := readText(t, resumed, 5); got != "world" {
		t.Errorf("got %q", got)
	}
	if _, _, err := f.q.Advance(f.ctx, f.lookup("a").Status().NotBefore); err != nil {
		t.Fatal(err)
	}
	f.begin("a")
	f.out.add(f.lookup("a").Ref(), "again")
	f.end("a", 0, "")
	for _, s := range []pb.OrchestratorService_StreamLogsClient{s, resumed} {
		if head := recv(t, s); head.GetAttempt() != 2 || head.GetTaskId() != "a" {
			t.Errorf("got %v", head)
		}
		if got, _ := readText(t, s, 5); got != "again" {
			t.Errorf("got %q", got)
		}
		wantEOF(t, s)
	}
	if f.out.open != 0 {
		t.Errorf("%d outputs are still open", f.out.open)
	}
}

func TestLogsOfATaskThatNeverBegins(t *testing.T) {
	f := setup(t)
	f.submit("a")
	s := f.logs(&pb.StreamLogsRequest{TaskId: "a", Follow: true})
	_, err := f.logs(&pb.StreamLogsRequest{TaskId: "a"}).Recv()
	wantCode(t, err, task.CodeConflict)
	_, err = f.logs(&pb.StreamLogsRequest{}).Recv()
	wantCode(t, err, task.CodeNotFound)
	_, err = f.logs(&pb.StreamLogsRequest{TaskId: "a", Attempt: 7}).Recv()
	wantCode(t, err, task.CodeNotFound)
	_, err = f.logs(&pb.StreamLogsRequest{TaskId: "a", Offset: -1}).Recv()
	wantCode(t, err, task.CodeInvalid)
	_, err = f.logs(&pb.StreamLogsRequest{TaskId: "nobody"}).Recv()
	wantCode(t, err, task.CodeNotFound)
	if _, err := f.CancelTask(f.ctx, &pb.CancelTaskRequest{TaskId: "a"}); err != nil {
		t.Fatal(err)
	}
	wantEOF(t, s)
	_, err = f.logs(&pb.StreamLogsRequest{TaskId: "a"}).Recv()
	wantCode(t, err, task.CodeNotFound)
}

func TestLogsComeInChunks(t *testing.T) {
	f := setup(t)
	f.submit("a")
	f.begin("a")
	f.out.add(f.lookup("a").Ref(), strings.Repeat("x", 1<<20))
	s := f.logs(&pb.StreamLogsRequest{TaskId: "a"})
	for total := 0; total < 1<<20; {
		n := len(recv(t, s).GetData())
		if n > 64<<10 {
			t.Fatalf("a chunk of %d bytes", n)
		}
		total += n
	}
	wantEOF(t, s)
}

// TestFollowATaskThatIsTakenBack cancels a task that waited in its backend.
func TestFollowATaskThatIsTakenBack(t *testing.T) {
	f := setup(t)
	f.submit("a")
	f.apply("a", task.Event{Kind: task.EventPlaced, Backend: "process"}, nil)
	f.apply("a", task.Event{Kind: task.EventLaunched}, nil)
	s := f.logs(&pb.StreamLogsRequest{TaskId: "a", Follow: true})
	_, err := f.logs(&pb.StreamLogsRequest{TaskId: "a"}).Recv()
	wantCode(t, err, task.CodeConflict)
	f.apply("a", task.Event{Kind: task.EventStopping, Cause: task.CauseCancel}, nil)
	f.apply("a", task.Event{Kind: task.EventStopped}, nil)
	wantEOF(t, s)
}

// A stream can be picked where streams are told apart, and each chunk says of which it is.
func TestLogsOfOneStream(t *testing.T) {
	f := setup(t)
	f.submit("plain")
	f.begin("plain")
	if answer, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Id: "a", Class: "boxed", Spec: &pb.TaskSpec{Argv: []string{"x"}}}); err != nil || !answer.GetSuccess() {
		t.Fatalf("%v, %v", answer, err)
	}
	f.begin("a")
	f.out.apart = true
	f.out.add(f.lookup("a").Ref(), "aaBBccDD")
	for stream, want := range map[string]string{"stdout": "aacc", "stderr": "BBDD", "": "aaBBccDD"} {
		s := f.logs(&pb.StreamLogsRequest{TaskId: "a", Stream: stream})
		recv(t, s)
		var got strings.Builder
		for got.Len() < len(want) {
			c := recv(t, s)
			got.Write(c.GetData())
			if upper := strings.ToUpper(string(c.GetData())) == string(c.GetData()); upper != (c.GetStream() == "stderr") {
				t.Errorf("%q is of %s", c.GetData(), c.GetStream())
			}
		}
		if got.String() != want {
			t.Errorf("%q is %q, want %q", stream, got.String(), want)
		}
		wantEOF(t, s)
	}
	for id, stream := range map[string]string{"a": "both", "plain": "stderr"} {
		if c, err := f.logs(&pb.StreamLogsRequest{TaskId: id, Stream: stream}).Recv(); err == nil {
			t.Errorf("%s of %s: %v", stream, id, c)
		}
	}
}
