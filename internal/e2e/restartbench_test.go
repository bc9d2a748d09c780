package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// BenchmarkRestart kills the daemon and measures how long the next one takes until it
// accepts calls, with so many tasks waiting. The sizes take turns, so that a slow moment
// of the machine hits them alike. Goal: with 200,000 at most a fifth longer than with
// 1,000.
func BenchmarkRestart(b *testing.B) {
	const samples = 30
	sizes := []int{1_000, 200_000, 1_000_000}
	worlds := make([]*world, len(sizes))
	for i, n := range sizes {
		worlds[i] = newWorld(b, binaries.plain)
		worlds[i].keepWaiting(n)
	}
	times := make([][]time.Duration, len(sizes))
	for b.Loop() {
		for range samples {
			for i, w := range worlds {
				w.killDaemon()
				began := time.Now()
				w.mustStart()
				times[i] = append(times[i], time.Since(began))
			}
		}
	}
	for i, n := range sizes {
		slices.Sort(times[i])
		b.ReportMetric(milliseconds(percentile(times[i], 50)), fmt.Sprintf("%d-p50-ms", n))
		b.ReportMetric(float64(percentile(times[i], 50))/float64(percentile(times[0], 50)), fmt.Sprintf("%d/1k", n))
	}
}

// keepWaiting starts a daemon with so many tasks that wait for their class.
func (w *world) keepWaiting(n int) {
	w.Helper()
	w.mustStart()
	ctx, c := context.Background(), w.client()
	if _, err := c.PauseClass(ctx, &pb.PauseClassRequest{Class: "cpu_short"}); err != nil {
		w.Fatal(err)
	}
	for from := 0; from < n; from += 1000 {
		batch := make([]*pb.SubmitTaskRequest, min(1000, n-from))
		for i := range batch {
			batch[i] = submission(fmt.Sprint("t", from+i), "")
			batch[i].Spec.Argv = []string{"/bin/true"}
		}
		w.submit(batch...)
	}
}
