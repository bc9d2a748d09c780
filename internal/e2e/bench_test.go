package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/dspy-agent/dspy-agent/internal/api"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// BenchmarkSubmitToRunning measures, on an idle machine, from the call that
// submits a task to the moment it is known to run. Goal: p50 under 5 ms, p99
// under 15 ms. Between lie three commits (submitted, placed, running) of two syncs
// each. The same six syncs of a bare file, taken in turn with the tasks, are the
// floor: what rises with it is the disk. spawn is one program started and waited for, which is
// what the machine takes for the task itself; the rest is ours.
func BenchmarkSubmitToRunning(b *testing.B) {
	const samples = 600
	w := newWorld(b, binaries.plain)
	w.mustStart()
	c := w.client()
	ctx := context.Background()
	events, err := c.StreamEvents(ctx, &pb.StreamEventsRequest{EventTypes: []string{"task_started"}})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := events.Header(); err != nil { // the stream has begun
		b.Fatal(err)
	}
	bare, err := os.Create(filepath.Join(w.queueDir, "floor"))
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	var times, floors, spawns []time.Duration
	for b.Loop() {
		for range samples {
			floors = append(floors, syncs(b, bare, 6))
			spawns = append(spawns, spawn(b))
			times = append(times, submitToRunning(ctx, b, c, events, fmt.Sprintf("t%d", len(times))))
		}
	}
	for _, m := range []struct {
		name  string
		times []time.Duration
	}{{"", times}, {"floor-", floors}, {"spawn-", spawns}} {
		slices.Sort(m.times)
		for _, p := range []int{50, 90, 99} {
			b.ReportMetric(float64(m.times[len(m.times)*p/100].Microseconds())/1000, fmt.Sprintf("%sp%d-ms", m.name, p))
		}
	}
}

// submitToRunning is one sample. It returns after the task has ended.
func submitToRunning(ctx context.Context, b *testing.B, c *api.Client, events grpc.ServerStreamingClient[pb.SystemEvent], id string) time.Duration {
	req := submission(id, "")
	req.Spec.Argv = []string{"/bin/sleep", "0.02"}
	began := time.Now()
	if r, err := c.SubmitTask(ctx, req); err != nil || !r.GetSuccess() {
		b.Fatal(r, err)
	}
	ev, err := events.Recv()
	if err != nil || ev.GetResourceId() != id {
		b.Fatal(ev, err)
	}
	took := time.Since(began)
	if _, err := c.WaitTask(ctx, &pb.WaitTaskRequest{TaskId: id}); err != nil {
		b.Fatal(err)
	}
	return took
}

// spawn starts a program that ends at once, and waits for it: what the machine takes for the
// least of programs, of which a task is one.
func spawn(b *testing.B) time.Duration {
	b.Helper()
	began := time.Now()
	if err := exec.Command("/bin/true").Run(); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

// syncs writes a page and syncs it, so many times.
func syncs(b *testing.B, f *os.File, n int) time.Duration {
	page := make([]byte, 4096)
	began := time.Now()
	for i := range n {
		if _, err := f.WriteAt(page, int64(i%8)*4096); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(began)
}

// BenchmarkTrue runs /bin/true a thousand times, two at a time, through the
// product, and in the same run by a loop that only forks, executes and waits.
// Goal: at most 1.5 times the loop.
//
// A second floor gives each run a new file for its output, as we do, on the same file
// system. What rises with it is the file system: ext4 without a journal takes no inode
// that was freed in the last minutes, and looks at each of them for every new file; so
// there the goal is asked of a TMPDIR on another one.
func BenchmarkTrue(b *testing.B) {
	const tasks = 1000
	w := newWorld(b, binaries.plain)
	w.mustStart()
	c := w.client()
	ctx := context.Background()
	round := 0
	var outputs atomic.Int64
	fresh := func() (*os.File, error) {
		return os.Create(filepath.Join(w.workspace, fmt.Sprintf("floor-%d", outputs.Add(1))))
	}
	var ratios, ours, floors, fileRatios, fileFloors []float64
	for b.Loop() {
		floor := bareLoop(b, tasks, nil)
		fileFloor := bareLoop(b, tasks, fresh)
		var batch []*pb.SubmitTaskRequest
		for i := range tasks {
			req := submission(fmt.Sprintf("r%d-%d", round, i), "")
			req.Spec.Argv = []string{"/bin/true"}
			batch = append(batch, req)
		}
		round++
		ends, err := c.StreamTaskResults(ctx, &pb.StreamTaskResultsRequest{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := ends.Header(); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if _, err := c.SubmitTasks(ctx, &pb.SubmitTasksRequest{Tasks: batch}); err != nil {
			b.Fatal(err)
		}
		for range tasks {
			if r, err := ends.Recv(); err != nil || r.GetStatus() != "completed" {
				b.Fatal(r, err)
			}
		}
		took := time.Since(began)
		ratios = append(ratios, took.Seconds()/floor.Seconds())
		ours = append(ours, took.Seconds()*1000)
		floors = append(floors, floor.Seconds()*1000)
		fileRatios = append(fileRatios, took.Seconds()/fileFloor.Seconds())
		fileFloors = append(fileFloors, fileFloor.Seconds()*1000)
	}
	b.ReportMetric(median(ours), "ours-ms")
	b.ReportMetric(median(floors), "floor-ms")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(median(fileFloors), "file-floor-ms")
	b.ReportMetric(median(fileRatios), "file-ratio")
}

// bareLoop is the floor: two goroutines that fork, execute and wait. output makes the
// file for the output of one; nil = it is dropped.
func bareLoop(b *testing.B, n int, output func() (*os.File, error)) time.Duration {
	began := time.Now()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	var both errgroup.Group
	for range 2 {
		both.Go(func() error {
			for range n / 2 {
				if err := bareRun(null, output); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := both.Wait(); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

func bareRun(null *os.File, output func() (*os.File, error)) error {
	out := null
	if output != nil {
		f, err := output()
		if err != nil {
			return err
		}
		defer f.Close()
		out = f
	}
	p, err := os.StartProcess("/bin/true", []string{"/bin/true"}, &os.ProcAttr{
		Env: []string{"PATH=/usr/bin:/bin"}, Files: []*os.File{null, out, out}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	_, err = p.Wait()
	return err
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
