package e2e

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
)

// BenchmarkStreams has a thousand streams of all results and a hundred followers
// of output read along while fifty tasks a second run, for DSPY_BENCH_SECONDS
// (30). Every reader checks that it misses nothing and gets nothing twice. What is
// measured is what that costs everybody else: how long the queue's commits take
// (goal: p99 under 10 ms), how long a call that submits a task takes, and whether
// the daemon's memory stays as it is. The readers share the machine with it.
func BenchmarkStreams(b *testing.B) {
	const results, logs, rate = 1000, 100, 50
	tasks := rate * benchSeconds(b)
	for b.Loop() {
		openDoors(b).streamsRound(b, tasks, results, logs, rate)
	}
}

func benchSeconds(b *testing.B) int {
	b.Helper()
	text := os.Getenv("DSPY_BENCH_SECONDS")
	if text == "" {
		return 30
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("DSPY_BENCH_SECONDS=%s: how many whole seconds the load is to last", text)
	}
	return n
}

func (d *doors) streamsRound(b *testing.B, tasks, results, logs, rate int) {
	b.Helper()
	idle := d.memory()
	all := follow(b, d.grpc, tasks, results, logs)
	c := d.client()
	commits, cpu, own := d.commitTimes(), d.cpuSeconds(), ownCPU(b)
	memory := []memory{d.memory()}
	began := time.Now()
	calls := d.submitPaced(b, c, all, tasks, rate, func() { memory = append(memory, d.memory()) })
	if err := all.wait(); err != nil {
		b.Error(err)
	}
	took := time.Since(began)
	commits, cpu, own = d.commitTimes().since(commits), d.cpuSeconds()-cpu, ownCPU(b)-own
	memory = append(memory, d.memory())

	slices.Sort(calls)
	fmt.Fprintf(os.Stderr, `
%d streams of results, %d log followers, %d tasks in %.1f s (%.1f a second): every stream has every result once
commits            %d, p50 %.2f ms, p99 %.2f ms (goal 10; from the daemon's histogram, whose steps double)
calls that submit  p50 %.2f ms, p99 %.2f ms
daemon's memory    %s without streams
`, results, logs, tasks, took.Seconds(), float64(tasks)/took.Seconds(),
		commits.total(), 1000*commits.quantile(0.5), 1000*commits.quantile(0.99),
		milliseconds(percentile(calls, 50)), milliseconds(percentile(calls, 99)), idle)
	for i, when := range []string{"start", "middle", "end"} {
		fmt.Fprintf(os.Stderr, "%18s %s\n", when, memory[i])
	}
	fmt.Fprintf(os.Stderr, "CPU                %.0f %% of one CPU for the daemon, %.0f %% for the readers\n", 100*cpu/took.Seconds(), 100*own/took.Seconds())
	b.ReportMetric(1000*commits.quantile(0.5), "commit-p50-ms")
	b.ReportMetric(1000*commits.quantile(0.99), "commit-p99-ms")
	b.ReportMetric(milliseconds(percentile(calls, 99)), "submit-p99-ms")
	b.ReportMetric(float64(memory[2].anonymous)/float64(memory[1].anonymous), "end/middle-memory")
}

// submitPaced submits so many tasks a second, each alone, and returns how long
// the calls took. After half of them it calls middle.
func (d *doors) submitPaced(b *testing.B, c *api.Client, r *readers, tasks, rate int, middle func()) []time.Duration {
	b.Helper()
	var calls []time.Duration
	// A tick that comes while a call lasts is kept, one, and what is late is made up for.
	pace := time.NewTicker(time.Second / time.Duration(rate))
	defer pace.Stop()
	began := time.Now()
	for n := range tasks {
		for due := time.Duration(n) * time.Second / time.Duration(rate); time.Since(began) < due; {
			<-pace.C // polls the clock
		}
		call := time.Now()
		if a, err := c.SubmitTask(b.Context(), loadTask(n, 0)); err != nil || !a.GetSuccess() {
			b.Fatal(a, err)
		}
		calls = append(calls, time.Since(call))
		r.next <- n
		if n == tasks/2 {
			middle()
		}
	}
	return calls
}

// memory is what a process holds, in bytes.
type memory struct{ resident, anonymous int64 }

func (m memory) String() string {
	return fmt.Sprintf("%.1f MiB resident, %.1f MiB of them anonymous", float64(m.resident)/(1<<20), float64(m.anonymous)/(1<<20))
}

// memory returns what the daemon holds.
func (w *world) memory() (m memory) {
	w.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.daemon().cmd.Process.Pid))
	if err != nil {
		w.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			continue // text, or a set of CPUs
		}
		switch name {
		case "VmRSS":
			m.resident = kib << 10
		case "RssAnon":
			m.anonymous = kib << 10
		}
	}
	return m
}

// cpuSeconds returns what the daemon has used.
func (d *doors) cpuSeconds() float64 {
	d.Helper()
	return d.metrics()["process_cpu_seconds_total"]
}

func ownCPU(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// histogram is one of the daemon's: how many values were at most so large.
type histogram struct {
	bounds []float64 // ascending; the last is infinite
	counts []float64 // cumulative
}

// commitTimes returns how long commits took so far.
func (d *doors) commitTimes() (h histogram) {
	d.Helper()
	const prefix = `dspy_commit_seconds_bucket{le="`
	counts := map[float64]float64{}
	for name, v := range d.metrics() {
		bound, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		le, err := strconv.ParseFloat(strings.TrimSuffix(bound, `"}`), 64)
		if err != nil {
			d.Fatal(err)
		}
		counts[le] = v
		h.bounds = append(h.bounds, le)
	}
	slices.Sort(h.bounds)
	for _, le := range h.bounds {
		h.counts = append(h.counts, counts[le])
	}
	return h
}

// since returns the values that have come since an earlier look.
func (h histogram) since(earlier histogram) histogram {
	out := histogram{bounds: h.bounds, counts: slices.Clone(h.counts)}
	for i := range out.counts {
		out.counts[i] -= earlier.counts[i]
	}
	return out
}

func (h histogram) total() int { return int(h.counts[len(h.counts)-1]) }

// quantile guesses, as Prometheus does, that values are spread evenly in a step.
func (h histogram) quantile(q float64) float64 {
	rank := q * h.counts[len(h.counts)-1]
	i, _ := slices.BinarySearch(h.counts, rank)
	var low, below float64
	if i > 0 {
		low, below = h.bounds[i-1], h.counts[i-1]
	}
	if math.IsInf(h.bounds[i], 1) {
		return low
	}
	return low + (h.bounds[i]-low)*(rank-below)/(h.counts[i]-below)
}

// percentile returns that of sorted values.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
