package container

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestCost compares a container through the backend, from being handed over until it
// was removed, with the same steps by the bare API, in turn, one and two at a time; with our
// init and without.
func TestCost(t *testing.T) {
	if os.Getenv("DSPY_TEST_COST") == "" {
		t.Skip("takes a machine that does nothing else: DSPY_TEST_COST=1 go test -run TestCost ./internal/container")
	}
	e := dockertest.Shared(t, dockertest.Config{})
	e.LoadShell(t)
	p, without := newPlace(t, e.Address()), newPlace(t, e.Address())
	without.opts.Init = ""
	direct := p.opts.Engine.(*docker.Client)
	calls := &counting{Engine: direct, n: map[string]int{}}
	p.opts.Engine = calls
	d := p.daemon(t)
	plain := without.daemon(t)
	poll(t, "the engine", func() bool { return d.Down() == "" && plain.Down() == "" })
	var seq atomic.Int64
	through := func(d *daemon) func() {
		return func() {
			tk := d.end(d.run(task.Seq(seq.Add(1)), task.Spec{Argv: []string{"true"}}))
			must(t, d.Forget(context.Background(), []task.Ref{tk.Ref()}))
		}
	}
	bare := func() {
		ctx := context.Background()
		name := fmt.Sprintf("bare-%s-%d", p.opts.QueueID, seq.Add(1))
		c := direct
		_, err := c.Create(ctx, docker.Spec{Name: name, Image: dockertest.Shell, Command: []string{"true"}, Network: "none", Init: d.engineNow().Init, User: "0:0",
			Mounts: []docker.Mount{{Source: os.TempDir(), Target: "/data"}}, LogBytes: 1 << 30, LogFiles: 2})
		must(t, err)
		must(t, c.Start(ctx, name))
		_, err = c.Wait(ctx, name)
		must(t, err)
		must(t, c.Remove(ctx, name))
	}
	ways := []func(){bare, through(d), through(plain)}
	for range 2 { // the first ones pay for what is loaded once
		for _, do := range ways {
			do()
		}
	}
	clear(calls.n)
	const rounds = 30
	for _, at := range []int{1, 2} {
		sum := make([][]time.Duration, len(ways))
		for round := range rounds {
			for i := range ways { // what is first in one round is last in another
				which := (i + round) % len(ways)
				begin := time.Now()
				var wg sync.WaitGroup
				for range at {
					wg.Go(ways[which])
				}
				wg.Wait()
				sum[which] = append(sum[which], time.Since(begin))
			}
		}
		for i := range sum {
			slices.Sort(sum[i])
		}
		for _, q := range []struct {
			name string
			at   int
		}{{"the least", 0}, {"lower quartile", rounds / 4}, {"median", rounds / 2}} {
			b, o, w := sum[0][q.at], sum[1][q.at], sum[2][q.at]
			t.Logf("%d at a time, %s: bare %s; ours %s, ratio %.3f; without init %s, ratio %.3f", at, q.name, b, o, float64(o)/float64(b), w, float64(w)/float64(b))
		}
	}
	for name, n := range calls.n {
		t.Logf("%s: %.2f a container", name, float64(n)/(3*rounds))
	}
}

// counting counts the calls of an engine.
type counting struct {
	Engine
	mu sync.Mutex
	n  map[string]int
}

func (c *counting) count(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[name]++
}

func (c *counting) Create(ctx context.Context, s docker.Spec) (string, error) {
	c.count("create")
	return c.Engine.Create(ctx, s)
}

func (c *counting) Start(ctx context.Context, name string) error {
	c.count("start")
	return c.Engine.Start(ctx, name)
}

func (c *counting) Inspect(ctx context.Context, name string) (docker.Container, error) {
	c.count("inspect")
	return c.Engine.Inspect(ctx, name)
}

func (c *counting) Logs(ctx context.Context, name string, o docker.LogOptions, take func(docker.Entry) error, idle func() error) error {
	c.count("logs")
	return c.Engine.Logs(ctx, name, o, take, idle)
}

func (c *counting) Remove(ctx context.Context, name string) error {
	c.count("remove")
	return c.Engine.Remove(ctx, name)
}
