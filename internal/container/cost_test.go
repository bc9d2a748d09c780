package container

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestCost compares a container through the backend, from being handed over until it
// was removed, with the same steps by the bare API, in turn, one and two at a time.
func TestCost(t *testing.T) {
	if os.Getenv("DSPY_TEST_COST") == "" {
		t.Skip("takes a machine that does nothing else: DSPY_TEST_COST=1 go test -run TestCost ./internal/container")
	}
	e := dockertest.Shared(t, dockertest.Config{})
	e.LoadShell(t)
	p := newPlace(t, e.Address())
	d := p.daemon(t)
	poll(t, "the engine", func() bool { return d.Down() == "" })
	seq := task.Seq(0)
	var mu sync.Mutex
	next := func() task.Seq {
		mu.Lock()
		defer mu.Unlock()
		seq++
		return seq
	}
	ours := func() {
		tk := d.end(d.run(next(), task.Spec{Argv: []string{"true"}}))
		must(t, d.Forget(context.Background(), []task.Ref{tk.Ref()}))
	}
	bare := func() {
		ctx := context.Background()
		name := fmt.Sprintf("bare-%s-%d", p.opts.QueueID, next())
		c := p.opts.Engine.(*docker.Client)
		_, err := c.Create(ctx, docker.Spec{Name: name, Image: dockertest.Shell, Command: []string{"true"}, Network: "none", Init: d.engineNow().Init, User: "0:0",
			Mounts: []docker.Mount{{Source: os.TempDir(), Target: "/data"}}, LogBytes: 1 << 30, LogFiles: 2})
		must(t, err)
		must(t, c.Start(ctx, name))
		_, err = c.Wait(ctx, name)
		must(t, err)
		must(t, c.Remove(ctx, name))
	}
	for _, at := range []int{1, 2} {
		var sum [2][]time.Duration
		for range 20 {
			for i, do := range []func(){bare, ours} {
				begin := time.Now()
				var wg sync.WaitGroup
				for range at {
					wg.Go(do)
				}
				wg.Wait()
				sum[i] = append(sum[i], time.Since(begin))
			}
		}
		for i := range sum {
			slices.Sort(sum[i])
		}
		b, o := sum[0][len(sum[0])/2], sum[1][len(sum[1])/2]
		t.Logf("%d at a time: bare %s (%s to %s), ours %s (%s to %s), ratio %.3f", at, b, sum[0][0], sum[0][19], o, sum[1][0], sum[1][19], float64(o)/float64(b))
	}
}
