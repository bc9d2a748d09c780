package queue_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// The benchmarks of this file run at two sizes of backlog, so that what grows
// with it shows. BenchmarkBacklog does it all in one go and reports the ratios:
//
//	go test ./queue -run '^$' -bench Backlog -benchtime 1x
//
// DSPY_BENCH_MILLION=1 adds a third size.

// idStyle is how the submitted tasks are named.
type idStyle string

const (
	sequentialIDs idStyle = "sequential"
	randomIDs     idStyle = "random"
)

func (s idStyle) id(i int) string {
	if s == sequentialIDs {
		return fmt.Sprintf("job-%012d", i)
	}
	sum := sha256.Sum256([]byte(strconv.Itoa(i)))
	return "u" + hex.EncodeToString(sum[:12])
}

var benchEnv = func() []string {
	env := make([]string, 30)
	for i := range env {
		env[i] = fmt.Sprintf("VARIABLE_%02d=/some/path/that/is/typical/%d", i, i)
	}
	return env
}()

func benchSpecs(style idStyle, from, n int) []*task.Spec {
	specs := make([]*task.Spec, n)
	for i := range specs {
		specs[i] = &task.Spec{
			ID: style.id(from + i), Class: "cpu", Dir: "/home/user/project", Ambient: benchEnv,
			Argv:    []string{"python", "train.py", "--lr", "0.1", "--seed", strconv.Itoa(from + i)},
			Payload: []byte(`{"question":"what is the answer","n":42}`),
		}
	}
	return specs
}

func fillQueue(tb testing.TB, q *queue.Queue, style idStyle, from, n int) {
	tb.Helper()
	for n > 0 {
		k := min(n, 2000)
		submit(tb, q, benchSpecs(style, from, k)...)
		from, n = from+k, n-k
	}
}

func benchSizes() []int {
	sizes := []int{1_000, 200_000}
	if os.Getenv("DSPY_BENCH_MILLION") != "" {
		sizes = append(sizes, 1_000_000)
	}
	return sizes
}

// BenchmarkBacklog measures every cost at each size of backlog. The ratio is to
// the smallest size: 1 means that the backlog costs nothing.
func BenchmarkBacklog(b *testing.B) {
	for _, style := range []idStyle{sequentialIDs, randomIDs} {
		b.Run(string(style), func(b *testing.B) {
			for range b.N {
				benchBacklog(b, style)
			}
		})
	}
}

// cost is a measured number; higher says whether more is better.
type cost struct {
	name   string
	value  float64
	higher bool
}

func benchBacklog(b *testing.B, style idStyle) {
	sizes := benchSizes()
	dirs := make([]string, len(sizes))
	for i, n := range sizes {
		dirs[i] = b.TempDir()
		q := openBench(b, dirs[i])
		fillQueue(b, q, style, 0, n)
		closeBench(b, q)
	}
	// The sizes take turns, so that a slow moment of the machine hits them alike;
	// of each cost the best of the rounds counts.
	const rounds = 5
	best := make([][]cost, len(sizes))
	for r := range rounds {
		for i, n := range sizes {
			got := measure(b, dirs[i], style, n+r*1_000_000_000)
			if best[i] == nil {
				best[i] = got
			}
			for j, c := range got {
				if c.higher == (c.value > best[i][j].value) {
					best[i][j] = c
				}
			}
		}
	}
	for i, n := range sizes {
		for j, c := range best[i] {
			ratio := c.value / best[0][j].value
			// Of what is logged the testing package shows ten lines.
			fmt.Fprintf(os.Stderr, "%-10s %8d waiting  %-22s %12.1f  ratio %.2f\n", style, n, c.name, c.value, ratio)
			if i > 0 {
				b.ReportMetric(ratio, fmt.Sprintf("%s-%d/1k", strings.ReplaceAll(c.name, " ", "_"), n))
			}
		}
	}
}

func openBench(tb testing.TB, dir string) *queue.Queue {
	tb.Helper()
	q, err := queue.Open(context.Background(), queue.Options{Dir: dir})
	if err != nil {
		tb.Fatal(err)
	}
	return q
}

func closeBench(tb testing.TB, q *queue.Queue) {
	tb.Helper()
	if err := q.Close(); err != nil {
		tb.Fatal(err)
	}
}

// measure leaves the backlog about as it was: what it adds it takes away again.
func measure(b *testing.B, dir string, style idStyle, from int) []cost {
	begin := time.Now()
	q := openBench(b, dir)
	reopen := time.Since(begin)
	defer closeBench(b, q)
	const alone, together, callers = 300, 6400, 64
	perCall := submitRate(b, q, 1, benchSpecs(style, from, alone))
	many := submitRate(b, q, callers, benchSpecs(style, from+alone, together))
	batched := submitBatches(b, q, benchSpecs(style, from+alone+together, together), 64)
	picks := pickRate(b, q, alone+2*together)
	return []cost{
		{"reopen us", float64(reopen.Microseconds()), false},
		{"submit/s 1 caller", perCall, true},
		{"submit/s 64 callers", many, true},
		{"submit/s batches of 64", batched, true},
		{"pick/s", picks, true},
	}
}

func submitRate(b *testing.B, q *queue.Queue, callers int, specs []*task.Spec) float64 {
	var next atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range callers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(specs) {
					return
				}
				if got, err := q.Submit(context.Background(), specs[i:i+1]); err != nil || got[0].Err != nil || got[0].Existing {
					b.Errorf("submit: %v %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(len(specs)) / time.Since(begin).Seconds()
}

func submitBatches(b *testing.B, q *queue.Queue, specs []*task.Spec, size int) float64 {
	begin := time.Now()
	for chunk := range slices.Chunk(specs, size) {
		submit(b, q, chunk...)
	}
	return float64(len(specs)) / time.Since(begin).Seconds()
}

// pickRate places what is at the head of the line, 32 tasks per round, and ends
// them in the next.
func pickRate(b *testing.B, q *queue.Queue, n int) float64 {
	ctx := context.Background()
	var running []task.Change
	begin := time.Now()
	for done := 0; done < n; {
		var heads []scheduler.Head
		err := q.Line(func(h scheduler.Head) scheduler.Verdict {
			if heads = append(heads, h); len(heads) == 32 {
				return scheduler.Stop
			}
			return scheduler.More
		})
		if err != nil {
			b.Fatal(err)
		}
		now := task.At(time.Now())
		changes := running
		running = nil
		for _, h := range heads {
			ev := task.Event{At: now, Attempt: h.Attempt}
			for _, kind := range []task.EventKind{task.EventPlaced} {
				ev.Kind = kind
				changes = append(changes, task.Change{Seq: h.Seq, Event: ev})
			}
			for _, kind := range []task.EventKind{task.EventLaunched, task.EventStarted, task.EventExited} {
				ev.Kind = kind
				running = append(running, task.Change{Seq: h.Seq, Event: ev})
			}
		}
		if _, err := q.Apply(ctx, changes); err != nil {
			b.Fatal(err)
		}
		done += len(heads)
	}
	if _, err := q.Apply(ctx, running); err != nil {
		b.Fatal(err)
	}
	return float64(n) / time.Since(begin).Seconds()
}

// BenchmarkMemory reports the anonymous memory of a process that opens a queue
// and looks at its heads, per waiting task.
func BenchmarkMemory(b *testing.B) {
	for range b.N {
		var rss []float64
		sizes := benchSizes()
		for _, n := range sizes {
			dir := b.TempDir()
			q := openBench(b, dir)
			fillQueue(b, q, randomIDs, 0, n)
			closeBench(b, q)
			rss = append(rss, childRSS(b, dir))
		}
		for i, n := range sizes {
			fmt.Fprintf(os.Stderr, "%8d waiting: %.1f MiB anonymous\n", n, rss[i]/(1<<20))
			if i > 0 {
				b.ReportMetric((rss[i]-rss[0])/float64(n-sizes[0]), fmt.Sprintf("B/task-%d", n))
			}
		}
	}
}

func childRSS(b *testing.B, dir string) float64 {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=rss", childDirEnv+"="+dir)
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("child: %v", err)
	}
	kib, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		b.Fatal(err)
	}
	return float64(kib) * 1024
}

// rssChild is the other side of childRSS.
func rssChild(dir string) error {
	q, err := queue.Open(context.Background(), queue.Options{Dir: dir})
	if err != nil {
		return err
	}
	for range 100 {
		if _, err := headsOf(q, 32); err != nil {
			return err
		}
	}
	kib, err := rssAnon()
	fmt.Println(kib)
	if err != nil {
		return err
	}
	return q.Close()
}

func rssAnon() (kib int, err error) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if v, ok := strings.CutPrefix(sc.Text(), "RssAnon:"); ok {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(v), " kB"))
		}
	}
	return 0, sc.Err()
}
