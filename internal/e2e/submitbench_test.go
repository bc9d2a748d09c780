package e2e

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkSubmit measures how many submissions a second the daemon accepts over
// TCP, each answered when it is on disk, beside two peers asked in the same run,
// by the same number of callers, for as long, with the same payload, on the same
// file system: beanstalkd that syncs on every put (-f0), and Redis with
// appendfsync always. The runs of the three take turns, and the middle one counts,
// so that a machine that is busy for a while is that for all. Every row begins
// with empty servers.
//
// The callers share the machine with the server: with two cores about half of the
// time goes to the client's side. Each caller of a peer has a connection of its
// own, as those protocols want it; those of gRPC share a few, as gRPC wants it. A
// batch is one call of ours, and for the peers so many requests that are sent
// before the first answer is awaited (a pipeline).
//
// A second table says what bounds ours: how many calls that do nothing gRPC makes
// with the same callers and connections, how many commits the disk can take, and
// what a submission costs in CPU time on either side.
func BenchmarkSubmit(b *testing.B) {
	var table submitTable
	for _, l := range []load{
		{callers: 1, batch: 1},
		{callers: 16, batch: 1},
		{callers: 64, batch: 1},
		{callers: 256, batch: 1},
		{callers: 1, batch: 10},
		{callers: 1, batch: 100},
		{callers: 1, batch: 1000},
		{callers: 4, batch: 1000},
		{callers: 1, batch: 20_000, stream: true},
	} {
		b.Run(l.String(), func(b *testing.B) {
			daemon := startOurs(b)
			all := []peer{daemon, startBeanstalkd(b), startRedis(b), startEcho(b)}
			for b.Loop() {
				r := row{load: l, commits: bareCommits(b)}
				r.measure(b, daemon, all)
				table.add(b, r)
			}
		})
	}
	table.print()
}

// load is how a server is asked.
type load struct {
	callers, batch int
	stream         bool // the batch goes over a stream of the client's, in many messages
}

func (l load) String() string {
	switch {
	case l.stream:
		return fmt.Sprintf("%d_stream_of_%d", l.callers, l.batch)
	case l.batch == 1:
		return fmt.Sprintf("%d_callers", l.callers)
	default:
		return fmt.Sprintf("%d_callers_%d_at_once", l.callers, l.batch)
	}
}

// peer is something that stores tasks. open returns what one caller calls to
// store a batch of them and wait until it is on disk.
type peer interface {
	open(b *testing.B, l load) (put func() error, end func())
}

// payloadOfBench is what is stored: about what a call of a Python function is.
const payloadOfBench = `{"task_type":"evaluate","model":"llama3","prompt":"Is the following sentence grammatical? Answer yes or no.","seed":17,"max_tokens":256}`

// row is what was measured of one load.
type row struct {
	load
	ours, beanstalkd, redis, echo float64 // a second
	commits                       float64 // that the disk takes, a second
	daemonCPU, clientCPU          float64 // seconds for each of our submissions
}

// measure lets the peers take turns. The middle one of each counts.
func (r *row) measure(b *testing.B, daemon *ours, all []peer) {
	b.Helper()
	const each, turns = 2 * time.Second, 3
	rates := make([][]float64, len(all))
	stored := 0.0 // by ours
	for range turns {
		for i, p := range all {
			server, client := daemon.cpu(), ownCPU(b)
			rate, n := submitRate(b, p, r.load, each)
			rates[i] = append(rates[i], rate)
			if p == daemon {
				stored += float64(n)
				r.daemonCPU += daemon.cpu() - server
				r.clientCPU += ownCPU(b) - client
			}
		}
	}
	r.daemonCPU /= stored
	r.clientCPU /= stored
	for i, to := range []*float64{&r.ours, &r.beanstalkd, &r.redis, &r.echo} {
		*to = median(rates[i])
	}
}

// submitRate lets so many callers store for so long. It returns the rate, and how
// many were stored in all, with those before the clock ran.
func submitRate(b *testing.B, p peer, l load, each time.Duration) (rate float64, all int64) {
	b.Helper()
	var stored atomic.Int64
	var wg sync.WaitGroup
	puts := make([]func() error, l.callers)
	for i := range puts {
		put, end := p.open(b, l)
		defer end()
		if err := put(); err != nil { // connected, and warm
			b.Fatal(err)
		}
		puts[i] = put
	}
	began := time.Now()
	for _, put := range puts {
		wg.Go(func() {
			for time.Since(began) < each {
				if err := put(); err != nil {
					b.Error(err)
					return
				}
				stored.Add(int64(l.batch))
			}
		})
	}
	wg.Wait()
	rate = float64(stored.Load()) / time.Since(began).Seconds()
	return rate, stored.Load() + int64(l.callers*l.batch)
}

// submitTable gathers the rows, and prints them when all are there: between them
// the testing package prints lines of its own.
type submitTable []row

func (t *submitTable) add(b *testing.B, r row) {
	b.ReportMetric(r.ours, "ours/s")
	b.ReportMetric(r.beanstalkd, "beanstalkd/s")
	b.ReportMetric(r.redis, "redis/s")
	b.ReportMetric(r.echo, "echo/s")
	*t = append(*t, r)
}

func (t submitTable) print() {
	fmt.Fprintf(os.Stderr, "\n%-28s %10s %12s %10s %14s %10s\n", "durable submissions a second", "ours", "beanstalkd", "redis", "of beanstalkd", "of redis")
	for _, r := range t {
		fmt.Fprintf(os.Stderr, "%-28s %10.0f %12.0f %10.0f %13.2fx %9.2fx\n", r.load, r.ours, r.beanstalkd, r.redis, r.ours/r.beanstalkd, r.ours/r.redis)
	}
	t.printBounds()
	t.printGoals()
}

// printBounds says what ours cannot exceed.
func (t submitTable) printBounds() {
	cores := runtime.GOMAXPROCS(0)
	fmt.Fprintf(os.Stderr, "\n%-28s %10s %12s %10s %14s %10s\n", "what bounds ours", "gRPC alone", "bare commits", "daemon us", "its caller us", fmt.Sprintf("%d cores", cores))
	for _, r := range t {
		fmt.Fprintf(os.Stderr, "%-28s %10.0f %12.0f %10.1f %14.1f %10.0f\n", r.load, r.echo, r.commits, 1e6*r.daemonCPU, 1e6*r.clientCPU, float64(cores)/(r.daemonCPU+r.clientCPU))
	}
	fmt.Fprintln(os.Stderr, `gRPC alone: the same calls a second to a server that stores nothing. Bare commits: two syncs each, by one writer.
us: CPU time for each submission. Cores: the submissions a second that they allow if nothing else runs and nobody waits.`)
}

func (t submitTable) printGoals() {
	i := slices.IndexFunc(t, func(r row) bool { return r.load == load{callers: 64, batch: 1} })
	if i < 0 {
		return // it was not asked for
	}
	alone := t[i]
	fmt.Fprintf(os.Stderr, "\n64 callers, one each: %.2fx beanstalkd (goal 3), %.2fx redis (goal 0.4)\n", alone.ours/alone.beanstalkd, alone.ours/alone.redis)
	best := slices.MaxFunc(t, func(a, b row) int { return cmp.Compare(a.ours, b.ours) })
	if best.batch > 1 {
		fmt.Fprintf(os.Stderr, "the best batch, %s: %.2fx redis with 64 callers and no pipeline (goal 1.5), %.2fx redis with the same in a pipeline\n",
			best.load, best.ours/alone.redis, best.ours/best.redis)
	}
}
