package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// BenchmarkSubmitToRunning measures, on an idle machine, from the call that
// submits a task to the moment it is known to run. Goal: p50 under 5 ms, p99
// under 15 ms.
func BenchmarkSubmitToRunning(b *testing.B) {
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
	var times []time.Duration
	n := 0
	for b.Loop() {
		id := fmt.Sprintf("t%d", n)
		n++
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
		times = append(times, time.Since(began))
		if _, err := c.WaitTask(ctx, &pb.WaitTaskRequest{TaskId: id}); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkTrue runs /bin/true a thousand times, two at a time, through the
// product, and in the same run by a loop that only forks, executes and waits.
// Goal: at most 1.5 times the loop.
func BenchmarkTrue(b *testing.B) {
	const tasks = 1000
	w := newWorld(b, binaries.plain)
	w.mustStart()
	c := w.client()
	ctx := context.Background()
	round := 0
	var ratios, ours, floors []float64
	for b.Loop() {
		floor := bareLoop(b, tasks)
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
	}
	b.ReportMetric(median(ours), "ours-ms")
	b.ReportMetric(median(floors), "floor-ms")
	b.ReportMetric(median(ratios), "ratio")
}

// bareLoop is the floor: two goroutines that fork, execute and wait.
func bareLoop(b *testing.B, n int) time.Duration {
	began := time.Now()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range n / 2 {
				p, err := os.StartProcess("/bin/true", []string{"/bin/true"}, &os.ProcAttr{
					Env: []string{"PATH=/usr/bin:/bin"}, Files: []*os.File{null, null, null}, Sys: &syscall.SysProcAttr{Setsid: true},
				})
				if err != nil {
					b.Error(err)
					return
				}
				if _, err := p.Wait(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
