package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// BenchmarkSubmitDoor measures how many submissions a second the daemon accepts
// over TCP, each answered when it is on disk, beside two peers asked in the same
// run, by the same number of callers, for as long, with the same payload, on the
// same file system: beanstalkd that syncs on every put (-f0), and Redis with
// appendfsync always. The runs of the three take turns, and the middle one counts,
// so that a machine that is busy for a while is that for all.
//
// The callers share the machine with the server: with two cores about half of the
// time goes to the client's side. Each caller of a peer has a connection of its
// own, as those protocols want it; those of gRPC share a few, as gRPC wants it.
func BenchmarkSubmitDoor(b *testing.B) {
	const each, turns = 2 * time.Second, 3
	peers := []peer{startBeanstalkd(b), startRedis(b)}
	ours := startOurs(b)
	for b.Loop() {
		fmt.Fprintf(os.Stderr, "\n%-28s %12s %12s %12s %14s %10s\n", "durable submissions a second", "ours", "beanstalkd", "redis", "of beanstalkd", "of redis")
		for _, callers := range []int{1, 16, 64, 256} {
			printRow(fmt.Sprintf("%d callers, one each", callers), measure(b, callers, 1, each, turns, append([]peer{ours}, peers...)))
		}
		for _, batch := range []int{10, 100, 1000} {
			printRow(fmt.Sprintf("1 caller, %d at once", batch), measure(b, 1, batch, each, turns, append([]peer{ours}, peers...)))
		}
	}
}

// peer is something that stores tasks. open returns what one caller calls to
// store n of them and wait until they are on disk.
type peer interface {
	open(b *testing.B) (put func(n int) error, end func())
}

// payloadOfBench is what is stored: about what a call of a Python function is.
const payloadOfBench = `{"task_type":"evaluate","model":"llama3","prompt":"Is the following sentence grammatical? Answer yes or no.","seed":17,"max_tokens":256}`

// measure returns the rate of each peer: the middle one of its turns.
func measure(b *testing.B, callers, batch int, each time.Duration, turns int, all []peer) []float64 {
	b.Helper()
	rates := make([][]float64, len(all))
	for range turns {
		for i, p := range all {
			rates[i] = append(rates[i], rate(b, p, callers, batch, each))
		}
	}
	out := make([]float64, len(all))
	for i, r := range rates {
		slices.Sort(r)
		out[i] = r[len(r)/2]
	}
	return out
}

// rate lets so many callers store for so long.
func rate(b *testing.B, p peer, callers, batch int, each time.Duration) float64 {
	b.Helper()
	var stored atomic.Int64
	var wg sync.WaitGroup
	puts := make([]func(int) error, callers)
	for i := range puts {
		put, end := p.open(b)
		defer end()
		if err := put(batch); err != nil { // connected, and warm
			b.Fatal(err)
		}
		puts[i] = put
	}
	began := time.Now()
	for _, put := range puts {
		wg.Go(func() {
			for time.Since(began) < each {
				if err := put(batch); err != nil {
					b.Error(err)
					return
				}
				stored.Add(int64(batch))
			}
		})
	}
	wg.Wait()
	return float64(stored.Load()) / time.Since(began).Seconds()
}

func printRow(name string, r []float64) {
	fmt.Fprintf(os.Stderr, "%-28s %12.0f %12.0f %12.0f %13.2fx %9.2fx\n", name, r[0], r[1], r[2], r[0]/r[1], r[0]/r[2])
}

// ours is a daemon whose class is paused, so that it does nothing but accept.
type ours struct {
	conns []*grpc.ClientConn
	next  atomic.Int64
}

func startOurs(b *testing.B) *ours {
	b.Helper()
	d := openDoors(b)
	o := &ours{}
	for range 4 {
		conn, err := grpc.NewClient(d.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = conn.Close() })
		o.conns = append(o.conns, conn)
	}
	if _, err := pb.NewOrchestratorServiceClient(o.conns[0]).PauseClass(b.Context(), &pb.PauseClassRequest{Class: "cpu_short"}); err != nil {
		b.Fatal(err)
	}
	return o
}

func (o *ours) open(*testing.B) (func(int) error, func()) {
	c := pb.NewOrchestratorServiceClient(o.conns[int(o.next.Add(1))%len(o.conns)])
	req := &pb.SubmitTaskRequest{
		Class: "cpu_short", Spec: &pb.TaskSpec{Argv: []string{"/bin/true"}, Dir: "/", PayloadJson: []byte(payloadOfBench)},
	}
	return func(n int) error {
		if n == 1 {
			_, err := c.SubmitTask(context.Background(), req)
			return err
		}
		got, err := c.SubmitTasks(context.Background(), &pb.SubmitTasksRequest{Tasks: slices.Repeat([]*pb.SubmitTaskRequest{req}, n)})
		if err == nil && len(got.GetResults()) != n {
			err = fmt.Errorf("%d answers to %d tasks", len(got.GetResults()), n)
		}
		return err
	}, func() {}
}
