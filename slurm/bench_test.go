package slurm

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/slurmtest"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// BenchmarkNoticed measures how long after its end a job's task has ended here, with a
// hundred jobs running and no inotify, and how often squeue was called meanwhile. Goal: p95
// under a second, and one squeue in two seconds at most.
func BenchmarkNoticed(b *testing.B) {
	c := slurmtest.Start(b, slurmtest.Config{Nodes: 7})
	p := newPlace(b, c)
	counted := &counting{Slurm: p.opts.Slurm}
	p.opts.Slurm = counted
	const jobs = 100
	var late []time.Duration
	seq := task.Seq(0)
	for b.Loop() {
		d := p.daemon(b)
		began := time.Now()
		var refs []task.Ref
		for range jobs {
			seq++
			refs = append(refs, d.launch(seq, sh(fmt.Sprintf("sleep %d.%d", 20+seq%10, seq%7))))
		}
		for _, ref := range refs {
			t := d.await(ref, "over", over)
			if t.State() != task.Succeeded {
				b.Fatal(t.Status())
			}
			d.mu.Lock()
			late = append(late, d.heard[ref].Sub(t.Status().EndedAt.Time()))
			d.mu.Unlock()
		}
		took := time.Since(began)
		b.ReportMetric(took.Seconds()/float64(counted.queues.Load()), "s/squeue")
	}
	slices.Sort(late)
	for _, q := range []int{50, 95, 99} {
		b.ReportMetric(late[len(late)*q/100].Seconds()*1000, fmt.Sprintf("p%d-ms", q))
	}
}

// counting counts the calls of squeue.
type counting struct {
	Slurm
	queues atomic.Int64
}

// Queue counts, and asks.
func (c *counting) Queue(ctx context.Context, prefix string) ([]Job, error) {
	c.queues.Add(1)
	return c.Slurm.Queue(ctx, prefix)
}
