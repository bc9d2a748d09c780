package process

import (
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func cpuOf(pid int) time.Duration {
	f, ok := statFields(pid)
	if !ok {
		return 0
	}
	n := 0
	for _, i := range []int{11, 12} {
		v, _ := strconv.Atoi(string(f[i]))
		n += v
	}
	return time.Duration(n) * 10 * time.Millisecond
}

func selfCPU() time.Duration {
	var ru unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func BenchmarkCPU(b *testing.B) {
	p := newPlace(b)
	opts := p.options("bench")
	opts.Pool = func(task.Task) (string, int) { return "short", benchWidth }
	d := p.daemon(b, opts)
	var floor, sup, daemon time.Duration
	seq := task.Seq(0)
	supervised(b, d, &seq)
	pid := p.supervisorPid(b)
	for b.Loop() {
		t := selfCPU()
		bareLoop(b)
		floor += selfCPU() - t
		t = selfCPU()
		u := cpuOf(pid)
		supervised(b, d, &seq)
		daemon += selfCPU() - t
		sup += cpuOf(pid) - u
	}
	n := float64(b.N) * benchTasks
	b.ReportMetric(float64(floor.Microseconds())/n, "floorcpu")
	b.ReportMetric(float64(sup.Microseconds())/n, "supcpu")
	b.ReportMetric(float64(daemon.Microseconds())/n, "daemoncpu")
	_ = os.Getpid
}
