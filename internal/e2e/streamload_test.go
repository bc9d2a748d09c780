package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// readers are streams that follow a load of tasks, each of which checks by itself
// that it misses nothing and gets nothing twice.
type readers struct {
	tasks int // of the load, named by taskName
	conns []*grpc.ClientConn
	group errgroup.Group
	next  chan int // for the log followers: a task of the load
}

// readersPerConn is how many streams share a connection.
const readersPerConn = 100

// follow opens streams of all results and followers of output. It returns when
// each of the former has its place, so that a task submitted from then on is in
// all of them. The latter take the tasks that are given to next, one at a time.
func follow(tb testing.TB, addr string, tasks, results, logs int) *readers {
	tb.Helper()
	r := &readers{tasks: tasks, next: make(chan int, tasks)}
	for range (results + logs + readersPerConn - 1) / readersPerConn {
		r.conns = append(r.conns, dialDoor(tb, addr))
	}
	// On the way out of a failed test nobody gives them what they wait for.
	ctx, cancel := context.WithCancel(context.Background())
	tb.Cleanup(func() {
		cancel()
		_ = r.group.Wait() // told by whoever waited first
	})
	var begun sync.WaitGroup
	for i := range results {
		stream, err := r.client(i).StreamTaskResults(ctx, &pb.StreamTaskResultsRequest{})
		if err != nil {
			tb.Fatal(err)
		}
		begun.Add(1)
		r.group.Go(func() error {
			_, err := stream.Header()
			begun.Done()
			if err != nil {
				return err
			}
			return newTally(tasks).readAll(stream)
		})
	}
	for i := range logs {
		c := r.client(results + i)
		r.group.Go(func() error {
			for n := range r.next {
				if err := followOutput(ctx, c, n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	begun.Wait()
	return r
}

func (r *readers) client(i int) pb.OrchestratorServiceClient {
	return pb.NewOrchestratorServiceClient(r.conns[i%len(r.conns)])
}

// wait returns when every stream of results has brought all of the load, and
// every task that was given to next was followed to its end.
func (r *readers) wait() error {
	close(r.next)
	return r.group.Wait()
}

// dialDoor connects as a plain program does.
func dialDoor(tb testing.TB, addr string, opts ...grpc.DialOption) *grpc.ClientConn {
	tb.Helper()
	conn, err := grpc.NewClient(addr, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// taskName is the id of task n of a load, taskNumber its inverse.
func taskName(n int) string { return "n" + strconv.Itoa(n) }

func taskNumber(id string) (int, error) {
	digits, ok := strings.CutPrefix(id, "n")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil {
		return 0, fmt.Errorf("a result of %q, which is none of the load", id)
	}
	return n, nil
}

// loadLines is how many lines a task of a load prints.
const loadLines = 20

// loadTask is task n of a load: it prints some lines, and returns its number and
// as much text as is asked for.
func loadTask(n, padding int) *pb.SubmitTaskRequest {
	line := fmt.Sprintf(`i=0; while [ $i -lt %d ]; do i=$((i+1)); echo "%s line $i"; done; echo '{"n": %d, "text": "%s"}' > "$DSPY_RESULT_FILE"`,
		loadLines, taskName(n), n, strings.Repeat("x", padding))
	return submission(taskName(n), line)
}

// outputOf is what task n of a load prints.
func outputOf(n int) string {
	var b strings.Builder
	for i := range loadLines {
		fmt.Fprintf(&b, "%s line %d\n", taskName(n), i+1)
	}
	return b.String()
}

// tally is what one reader has of the results of a load.
type tally struct {
	seen []bool // by task
	left int
	last uint64 // the greatest index
}

func newTally(tasks int) *tally { return &tally{seen: make([]bool, tasks), left: tasks} }

// take checks that a result is new, is behind the last one, and is its task's.
func (t *tally) take(r *pb.TaskResult) error {
	n, err := taskNumber(r.GetTaskId())
	switch {
	case err != nil:
		return err
	case n >= len(t.seen):
		return fmt.Errorf("a result of %s, which was not submitted", r.GetTaskId())
	case t.seen[n]:
		return fmt.Errorf("the result of %s came twice", r.GetTaskId())
	case r.GetIndex() <= t.last:
		return fmt.Errorf("the result of %s has index %d and came after %d", r.GetTaskId(), r.GetIndex(), t.last)
	case r.GetStatus() != "completed" || r.GetResult()["n"] != strconv.Itoa(n):
		return fmt.Errorf("the result of %s: %s %s, n is %q", r.GetTaskId(), r.GetStatus(), r.GetError(), r.GetResult()["n"])
	}
	t.seen[n], t.last = true, r.GetIndex()
	t.left--
	return nil
}

// resultSource is a stream of results.
type resultSource interface {
	Recv() (*pb.TaskResult, error)
}

// readAll reads until every task of the load has come.
func (t *tally) readAll(from resultSource) error {
	for t.left > 0 {
		r, err := from.Recv()
		if err != nil {
			return fmt.Errorf("%d of %d results have not come: %w", t.left, len(t.seen), err)
		}
		if err := t.take(r); err != nil {
			return err
		}
	}
	return nil
}

// followOutput follows what task n of a load prints, to the end.
func followOutput(ctx context.Context, c pb.OrchestratorServiceClient, n int) error {
	stream, err := c.StreamLogs(ctx, &pb.StreamLogsRequest{TaskId: taskName(n), Follow: true})
	if err != nil {
		return err
	}
	got, _, err := readOutput(stream, 0)
	if err != nil {
		return fmt.Errorf("the output of %s: %w", taskName(n), err)
	}
	if want := outputOf(n); got != want {
		return fmt.Errorf("the output of %s is\n%s\nand not\n%s", taskName(n), got, want)
	}
	return nil
}

// readOutput reads a stream of output that begins at an offset, to its end.
func readOutput(stream grpc.ServerStreamingClient[pb.LogChunk], offset int64) (got string, next int64, err error) {
	var b strings.Builder
	for {
		chunk, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return b.String(), offset, nil
		case err != nil:
			return b.String(), offset, err
		}
		b.Write(chunk.GetData())
		if offset += int64(len(chunk.GetData())); chunk.GetNextOffset() != offset {
			return b.String(), offset, fmt.Errorf("a chunk that ends at %d says that the next begins at %d", offset, chunk.GetNextOffset())
		}
	}
}
