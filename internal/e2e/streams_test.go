package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// TestStreamsUnderLoad has many streams follow a load of tasks. None of them
// misses a result or gets one twice, and every output is followed to its end.
// Meanwhile two readers take nothing: they are cut off with an error that says
// that they may come back, nobody else notices, and when they come back they get
// exactly what they have not read.
func TestStreamsUnderLoad(t *testing.T) {
	t.Parallel()
	tasks, results, logs := rounds(80, 1000), rounds(80, 500), rounds(10, 100)
	d := openDoors(t)
	// Fixed windows, so that what fits on the way to the slow ones is known. Each of
	// them has a connection of its own.
	small := []grpc.DialOption{grpc.WithInitialWindowSize(64 << 10), grpc.WithInitialConnWindowSize(64 << 10)}
	results1 := pb.NewOrchestratorServiceClient(dialDoor(t, d.grpc, small...))
	logs1 := pb.NewOrchestratorServiceClient(dialDoor(t, d.grpc, small...))
	ctx := t.Context()

	lazy, err := results1.StreamTaskResults(ctx, &pb.StreamTaskResultsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lazy.Header(); err != nil {
		t.Fatal(err)
	}
	lazyLog := d.followNumbers(ctx, logs1)
	all := follow(t, d.grpc, tasks, results, logs)
	d.submitLoad(all, tasks)
	if err := all.wait(); err != nil {
		t.Fatal(err)
	}
	d.stopNumbers()
	d.eventually(2*time.Minute, "both slow readers are cut off", func() bool {
		log, err := os.ReadFile(filepath.Join(d.workspace, "logs", "orchestrator.log"))
		return err == nil && strings.Count(string(log), "slow reader cut off") == 2
	})

	mine := newTally(tasks)
	wantCutOff(t, mine.readAll(lazy))
	if mine.left == 0 || mine.last == 0 {
		t.Errorf("a slow reader was cut off with %d of %d results left, the last at %d", mine.left, tasks, mine.last)
	}
	again, err := results1.StreamTaskResults(ctx, &pb.StreamTaskResultsRequest{AfterIndex: mine.last})
	if err != nil {
		t.Fatal(err)
	}
	if err := mine.readAll(again); err != nil {
		t.Errorf("after a slow reader came back: %v", err)
	}

	text, next, err := readOutput(lazyLog, 0)
	wantCutOff(t, err)
	rest, err := logs1.StreamLogs(ctx, &pb.StreamLogsRequest{TaskId: numbersID, Follow: true, Offset: next})
	if err != nil {
		t.Fatal(err)
	}
	more, _, err := readOutput(rest, next)
	if err != nil {
		t.Errorf("after a slow follower came back: %v", err)
	}
	if text == "" || more == "" {
		t.Errorf("a slow follower got %d bytes before it was cut off, and %d after it came back", len(text), len(more))
	}
	wantNumbers(t, text+more)
}

func wantCutOff(t *testing.T, err error) {
	t.Helper()
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a reader that takes nothing got %v", err)
	}
}

// submitLoad submits the tasks, some at a time, each time when most of those
// before have ended: so the streams follow what runs, and not what is over.
func (d *doors) submitLoad(r *readers, tasks int) {
	d.Helper()
	const step, ahead = 10, 20
	own, err := r.client(0).StreamTaskResults(d.Context(), &pb.StreamTaskResultsRequest{})
	if err != nil {
		d.Fatal(err)
	}
	if _, err := own.Header(); err != nil {
		d.Fatal(err)
	}
	ended := 0
	for sent := 0; sent < tasks; {
		for ; sent-ended >= ahead; ended++ {
			if _, err := own.Recv(); err != nil {
				d.Fatal(err)
			}
		}
		var batch []*pb.SubmitTaskRequest
		for range min(step, tasks-sent) {
			batch = append(batch, loadTask(sent, 2<<10))
			sent++
		}
		d.submit(batch...)
		for n := sent - len(batch); n < sent; n++ {
			r.next <- n
		}
	}
}

// numbersID is a task that prints numbers from 1 on until it is stopped.
const numbersID = "numbers"

func (d *doors) numbersGate() string { return filepath.Join(d.runtime, "enough") }

// followNumbers starts it, and follows it.
func (d *doors) followNumbers(ctx context.Context, c pb.OrchestratorServiceClient) grpc.ServerStreamingClient[pb.LogChunk] {
	d.Helper()
	line := `n=1; while [ ! -e ` + d.numbersGate() + ` ]; do seq $n $((n+49999)); n=$((n+50000)); sleep 0.1; done; echo end`
	d.submit(submission(numbersID, line))
	stream, err := c.StreamLogs(ctx, &pb.StreamLogsRequest{TaskId: numbersID, Follow: true})
	if err != nil {
		d.Fatal(err)
	}
	return stream
}

func (d *doors) stopNumbers() {
	d.Helper()
	if err := os.WriteFile(d.numbersGate(), nil, 0o600); err != nil {
		d.Fatal(err)
	}
	if info := d.await(numbersID); info.GetState() != "succeeded" {
		d.Errorf("the task that prints numbers %s: %s", info.GetState(), info.GetOutcome().GetMessage())
	}
}

// wantNumbers fails unless the text is every number from 1 on, then the end.
func wantNumbers(t *testing.T, text string) {
	t.Helper()
	want := 1
	for line := range strings.Lines(text) {
		switch line {
		case fmt.Sprintf("%d\n", want):
			want++
		case "end\n":
			if !strings.HasSuffix(text, "\nend\n") {
				t.Error("something stands behind the end")
			}
			return
		default:
			t.Fatalf("after %d comes %q", want-1, line)
		}
	}
	t.Errorf("the output ends after %d", want-1)
}
