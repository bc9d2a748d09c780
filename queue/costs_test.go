package queue_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// benchWaiting is how many tasks wait in the benchmarks of this file.
func benchWaiting() int {
	if n, err := strconv.Atoi(os.Getenv("DSPY_BENCH_WAITING")); err == nil {
		return n
	}
	return 200_000
}

// fill submits n tasks, each changed.
func fill(tb testing.TB, q *queue.Queue, n int, change func(i int, s *task.Spec)) {
	tb.Helper()
	for from := 0; from < n; from += 2000 {
		specs := make([]*task.Spec, min(2000, n-from))
		for i := range specs {
			specs[i] = &task.Spec{ID: fmt.Sprintf("%s-%d", "b", from+i), Class: "cpu", Argv: []string{"true"}}
			change(from+i, specs[i])
		}
		submit(tb, q, specs...)
	}
}

// timed returns the middle of the times that a function takes, and the time
// that it stays below in 99 of 100 cases.
func timed(tb testing.TB, n int, f func()) (p50, p99 time.Duration) {
	tb.Helper()
	times := make([]time.Duration, n)
	for i := range times {
		begin := time.Now()
		f()
		times[i] = time.Since(begin)
	}
	slices.Sort(times)
	return times[n/2], times[n*99/100]
}

// BenchmarkRoundOverShapes is what a round of scheduling costs with all that waits
// of one shape and of 2,000. On a machine with one free slot: also where no shape
// but the newest has room, so that all are looked at. And where nothing can start
// although something is free: because it is less than the smallest asks for, or
// because the class is at its limit.
func BenchmarkRoundOverShapes(b *testing.B) {
	n := benchWaiting()
	images := func(i int, s *task.Spec) { s.Image = fmt.Sprint("image-", i%2000) }
	sizes := func(i int, s *task.Spec) { s.Resources.CPUMilli = int64(10 + i%2000) }
	cases := []struct {
		name   string
		change func(i int, s *task.Spec)
		free   int64 // thousandths of a CPU
		limit  int   // of the class, of which one runs
		starts int
	}{
		{"1 shape", func(int, *task.Spec) {}, 1000, 0, 1},
		{"2000 shapes", images, 1000, 0, 1},
		{"2000 shapes, one fits", func(i int, s *task.Spec) {
			s.Image, s.Resources.CPUMilli = fmt.Sprint("image-", i%2000), 2000
			if i == n-1 {
				s.Resources.CPUMilli = 1000
			}
		}, 1000, 0, 1},
		{"2000 shapes, a rest is free", sizes, 5, 0, 0},
		{"2000 shapes, class at its limit", sizes, 1000, 1, 0},
	}
	for range b.N {
		var first float64
		for _, c := range cases {
			q := openBench(b, b.TempDir())
			fill(b, q, n, c.change)
			s := machineWith(c.free, c.limit)
			p50, p99 := timed(b, 2000, func() { roundOver(b, q, s, c.starts) })
			if first == 0 {
				first = us(p50)
			}
			fmt.Fprintf(os.Stderr, "%d waiting, %-31s p50 %8.1f us  p99 %8.1f us  ratio %.2f\n", n, c.name, us(p50), us(p99), us(p50)/first)
			b.ReportMetric(us(p50)/first, strings.ReplaceAll(c.name, " ", "_")+"-ratio")
			closeBench(b, q)
		}
	}
}

// machineWith is a machine of four CPUs of which so much is free, and one class,
// of which a task runs.
func machineWith(free int64, limit int) scheduler.Snapshot {
	return scheduler.Snapshot{
		Now: task.At(time.Now()), Capacity: scheduler.Capacity{CPUMilli: 4000}, Used: scheduler.Usage{CPUMilli: 4000 - free},
		Classes:  map[string]scheduler.Class{"cpu": {Name: "cpu", Backends: []string{"p"}, Parallel: limit}},
		Running:  map[string]int{"cpu": 1},
		Backends: map[string]scheduler.Backend{"p": {Name: "p", Local: true, Image: true, NoImage: true}},
	}
}

// roundOver asks a planner what starts, as the engine does.
func roundOver(b *testing.B, q *queue.Queue, s scheduler.Snapshot, starts int) {
	s.Least = q.Least()
	p := scheduler.NewPlanner(s)
	if !p.Full() {
		if err := q.Line(p.Offer); err != nil {
			b.Fatal(err)
		}
	}
	if d := p.Decision(); len(d.Place) != starts {
		b.Fatalf("%d start, want %d", len(d.Place), starts)
	}
}

// BenchmarkListing lists 20 tasks by state out of many: the newest that wait, the
// few that run, and the few that failed long ago.
func BenchmarkListing(b *testing.B) {
	for range b.N {
		q := openBench(b, b.TempDir())
		n := benchWaiting()
		fill(b, q, n, func(i int, s *task.Spec) { s.Ambient = benchEnv })
		for seq := range task.Seq(30) {
			steps := []task.Event{placed, launched, started, failed}
			apply(b, q, seq+1, steps[:3+seq%2]...)
		}
		for _, f := range []task.Filter{
			{Limit: 20}, {Limit: 20, States: []task.State{task.Pending}}, {Limit: 20, States: []task.State{task.Failed}},
			{Limit: 20, States: []task.State{task.Running}}, {Limit: 20, States: []task.State{task.Lost}},
			{Limit: 20, Class: "gpu"},
		} {
			p50, p99 := timed(b, 500, func() {
				if _, _, err := q.List(f); err != nil {
					b.Fatal(err)
				}
			})
			fmt.Fprintf(os.Stderr, "%d tasks, 20 of class %-4q in %-10v p50 %8.1f us  p99 %8.1f us\n", n, f.Class, f.States, us(p50), us(p99))
		}
		closeBench(b, q)
	}
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// BenchmarkStatusChanges is how fast tasks go from placed to ended, 32 at a time,
// without payloads and with long ones. The two take turns, and of each the best
// round counts: the machine may be busy, and the disk with what was submitted.
func BenchmarkStatusChanges(b *testing.B) {
	const n, rounds = 160, 6
	sizes := []int{0, 1 << 20}
	for range b.N {
		var queues []*queue.Queue
		for _, size := range sizes {
			q := openBench(b, b.TempDir())
			fill(b, q, 2*n*rounds, func(_ int, s *task.Spec) { s.Payload = heavy("", 2).Payload })
			for i := range n * rounds {
				s := heavy(fmt.Sprint("first-", i), size)
				s.Priority = 100
				submit(b, q, s)
			}
			queues = append(queues, q)
		}
		unix.Sync()
		best := make([]float64, len(sizes))
		for range rounds {
			for i, q := range queues {
				best[i] = max(best[i], pickRate(b, q, n))
			}
		}
		for i, size := range sizes {
			b.Logf("payload of %7d bytes: %8.0f tasks/s from placed to ended, ratio %.2f", size, best[i], best[i]/best[0])
			closeBench(b, queues[i])
		}
		b.ReportMetric(best[1]/best[0], "ratio")
	}
}
