package e2e

import (
	"fmt"
	"os"
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
			all := []peer{startOurs(b), startBeanstalkd(b), startRedis(b)}
			for b.Loop() {
				table.add(b, l, measureSubmit(b, l, all))
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

// measureSubmit returns the rate of each peer: the middle one of its turns.
func measureSubmit(b *testing.B, l load, all []peer) []float64 {
	b.Helper()
	const each, turns = 2 * time.Second, 3
	rates := make([][]float64, len(all))
	for range turns {
		for i, p := range all {
			rates[i] = append(rates[i], submitRate(b, p, l, each))
		}
	}
	out := make([]float64, len(all))
	for i, r := range rates {
		out[i] = median(r)
	}
	return out
}

// submitRate lets so many callers store for so long.
func submitRate(b *testing.B, p peer, l load, each time.Duration) float64 {
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
	return float64(stored.Load()) / time.Since(began).Seconds()
}

// submitTable gathers the rows, and prints them when all are there: between them
// the testing package prints lines of its own.
type submitTable struct {
	loads []load
	rates [][]float64 // ours, beanstalkd's, Redis's
}

func (t *submitTable) add(b *testing.B, l load, rates []float64) {
	b.ReportMetric(rates[0], "ours/s")
	b.ReportMetric(rates[1], "beanstalkd/s")
	b.ReportMetric(rates[2], "redis/s")
	t.loads, t.rates = append(t.loads, l), append(t.rates, rates)
}

// of returns the rates of a row; nil when it was not asked for.
func (t *submitTable) of(l load) []float64 {
	if i := slices.Index(t.loads, l); i >= 0 {
		return t.rates[i]
	}
	return nil
}

func (t *submitTable) print() {
	fmt.Fprintf(os.Stderr, "\n%-28s %10s %12s %10s %14s %10s\n", "durable submissions a second", "ours", "beanstalkd", "redis", "of beanstalkd", "of redis")
	for i, l := range t.loads {
		r := t.rates[i]
		fmt.Fprintf(os.Stderr, "%-28s %10.0f %12.0f %10.0f %13.2fx %9.2fx\n", l, r[0], r[1], r[2], r[0]/r[1], r[0]/r[2])
	}
	alone := t.of(load{callers: 64, batch: 1})
	if alone == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "\n64 callers, one each: %.2fx beanstalkd (goal 3), %.2fx redis (goal 0.4)\n", alone[0]/alone[1], alone[0]/alone[2])
	best := 0.0
	for i, l := range t.loads {
		if l.batch > 1 {
			best = max(best, t.rates[i][0])
		}
	}
	if best > 0 {
		fmt.Fprintf(os.Stderr, "the best batch: %.2fx redis with 64 callers and no pipeline (goal 1.5)\n", best/alone[2])
	}
}
