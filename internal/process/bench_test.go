package process

import (
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// benchTasks is how many tasks one round runs, benchWidth how many at a time.
const (
	benchTasks = 1000
	benchWidth = 2
)

// BenchmarkSupervisorTrue compares the supervisor with the least that can be:
// the same programs started and waited for by a bare loop in two goroutines.
// Rounds of both alternate, so that a slow moment of the machine hits both.
//
// Run it with TMPDIR on a tmpfs, or not twice in five minutes: for so long ext4
// passes, one by one, over the inodes of files that were deleted, and those of a
// run's logs are deleted when it ends.
func BenchmarkSupervisorTrue(b *testing.B) {
	p := newPlace(b)
	opts := p.options("bench")
	opts.Pool = func(task.Task) (string, int) { return "short", benchWidth }
	d := p.daemon(b, opts)
	var floor, ours []time.Duration
	seq := task.Seq(0)
	for b.Loop() {
		floor = append(floor, bareLoop(b))
		ours = append(ours, supervised(b, d, &seq))
	}
	b.ReportMetric(float64(median(floor).Microseconds())/benchTasks, "floor-µs/task")
	b.ReportMetric(float64(median(ours).Microseconds())/benchTasks, "µs/task")
	b.ReportMetric(float64(median(ours))/float64(median(floor)), "ratio")
	b.ReportMetric(float64(slices.Min(ours))/float64(slices.Min(floor)), "best-ratio")
}

func median(ds []time.Duration) time.Duration {
	ds = slices.Clone(ds)
	slices.Sort(ds)
	return ds[len(ds)/2]
}

// bareLoop runs the programs with fork, exec and wait, and nothing else.
func bareLoop(b *testing.B) time.Duration {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	must(b, err)
	defer null.Close()
	var next atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range benchWidth {
		wg.Go(func() {
			for next.Add(1) <= benchTasks {
				attr := &os.ProcAttr{Files: []*os.File{null, null, null}, Sys: &syscall.SysProcAttr{Setsid: true}}
				p, err := os.StartProcess("/bin/true", []string{"true"}, attr)
				if err == nil {
					_, err = p.Wait()
				}
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}

// supervised runs as many as tasks, from Launch to the last end that a daemon
// hears.
func supervised(b *testing.B, d *daemon, seq *task.Seq) time.Duration {
	tasks := make([]task.Task, benchTasks)
	refs := make([]task.Ref, benchTasks)
	for i := range tasks {
		*seq++
		tasks[i] = assigned(b, *seq, argv("/bin/true"))
		refs[i] = tasks[i].Ref()
	}
	begin := time.Now()
	d.launch(tasks...)
	for _, ref := range slices.Backward(refs) { // the last ends last: the others need no waiting then
		d.end(ref)
	}
	took := time.Since(begin)
	must(b, d.Forget(b.Context(), refs))
	return took
}
