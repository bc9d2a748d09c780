package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/slurmtest"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

const (
	benchRuns = 2000
	// benchSingles is how many of the single jobs are really submitted: what one takes
	// does not depend on how many there are.
	benchSingles = 200
)

// BenchmarkWorkers runs true 2,000 times in a worker job, as elements of one array, and as
// jobs of their own (of which it submits 200). Goal: 5 times faster than the array, and 20
// times faster than single jobs.
func BenchmarkWorkers(b *testing.B) {
	c := slurmtest.Start(b, slurmtest.Config{Settings: "MaxArraySize=5001\nMaxJobCount=20000"})
	for b.Loop() {
		singles := benchSlurm(b, c, func() {
			for range benchSingles {
				c.Command(b, "sbatch", "--parsable", "--output=/dev/null", "--wrap=true")
			}
		}) * benchRuns / benchSingles
		array := benchSlurm(b, c, func() {
			c.Command(b, "sbatch", "--parsable", "--output=/dev/null", fmt.Sprintf("--array=0-%d", benchRuns-1), "--wrap=true")
		})
		workers := benchWorkers(b, c)
		b.ReportMetric(singles.Seconds(), "singles-s")
		b.ReportMetric(array.Seconds(), "array-s")
		b.ReportMetric(workers.Seconds(), "workers-s")
		b.ReportMetric(singles.Seconds()/workers.Seconds(), "x-singles")
		b.ReportMetric(array.Seconds()/workers.Seconds(), "x-array")
		b.Logf("%d runs of true: %.1f s as single jobs (from %d of them), %.1f s as one array, %.1f s in a worker job: %.1f and %.1f times faster",
			benchRuns, singles.Seconds(), benchSingles, array.Seconds(), workers.Seconds(), singles.Seconds()/workers.Seconds(), array.Seconds()/workers.Seconds())
	}
}

// benchSlurm is how long jobs take from the first call of sbatch until none is left.
func benchSlurm(b *testing.B, c *slurmtest.Cluster, submit func()) time.Duration {
	b.Helper()
	began := time.Now()
	submit()
	for c.Command(b, "squeue", "--me", "-h", "-t", "PD,R,CF", "-o", "%i") != "" {
		if time.Since(began) > 10*time.Minute {
			b.Fatal("the jobs do not end")
		}
		pauseFor(100 * time.Millisecond)
	}
	return time.Since(began)
}

// benchWorkers is how long the tasks take from the submission of the first, the jobs of the
// workers included.
func benchWorkers(b *testing.B, c *slurmtest.Cluster) time.Duration {
	b.Helper()
	w := newWorld(b, binaries.plain)
	w.env = append(w.env, "SLURM_CONF="+c.Conf())
	w.configure("[classes.short]\nbackends = [\"worker\"]\n")
	w.mustStart()
	batch := make([]*pb.SubmitTaskRequest, benchRuns)
	for i := range batch {
		batch[i] = &pb.SubmitTaskRequest{Id: fmt.Sprint("t", i), Class: "short", Payload: map[string]string{"command": `["true"]`}}
	}
	began := time.Now()
	w.workerJob(c, []string{"--cpus-per-task=8", "--time=10"}, "--idle=2s")
	w.submit(batch...)
	client := w.client()
	for {
		h, err := client.Health(context.Background(), &pb.HealthRequest{})
		if err != nil {
			b.Fatal(err)
		}
		done := int64(0)
		for _, k := range h.GetClasses() {
			done += k.GetStates()["succeeded"]
		}
		if done == benchRuns {
			break
		}
		if time.Since(began) > 10*time.Minute {
			b.Fatalf("%d of %d have ended; %s", done, benchRuns, os.Getenv("SLURM_CONF"))
		}
		pauseFor(20 * time.Millisecond)
	}
	took := time.Since(began)
	w.workersGone(c)
	return took
}
