package slurm

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Allocation is what Slurm gave a job on the node where it runs.
type Allocation struct {
	Job      string // "" = this is no job
	CPUs     int    // 0 = not known
	MemBytes int64  // 0 = not counted
	GPUs     []string
	Until    time.Time // when the job ends; zero = not known
}

// Allocation reads the environment of a job, and asks Slurm when it ends. Outside a job it
// is empty.
func (c *Client) Allocation(ctx context.Context, environ []string) (Allocation, error) {
	env := map[string]string{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	a := Allocation{Job: env["SLURM_JOB_ID"]}
	if a.Job == "" {
		return a, nil
	}
	if _, err := strconv.ParseUint(a.Job, 10, 64); err != nil {
		return a, task.Errorf(task.CodeInvalid, "SLURM_JOB_ID is %q, which is no number of a job", a.Job)
	}
	a.CPUs = number(env["SLURM_CPUS_ON_NODE"])
	if n := number(env["SLURM_CPUS_PER_TASK"]); n > 0 && (a.CPUs == 0 || n < a.CPUs && number(env["SLURM_NTASKS"]) > 1) {
		a.CPUs = n
	}
	switch mb, per := number(env["SLURM_MEM_PER_NODE"]), number(env["SLURM_MEM_PER_CPU"]); {
	case mb > 0:
		a.MemBytes = int64(mb) << 20
	case per > 0 && a.CPUs > 0:
		a.MemBytes = int64(per*a.CPUs) << 20
	}
	if env["SLURM_JOB_GPUS"] != "" || number(env["SLURM_GPUS_ON_NODE"]) > 0 {
		a.GPUs = strings.FieldsFunc(env["CUDA_VISIBLE_DEVICES"], func(r rune) bool { return r == ',' })
	}
	if at, err := strconv.ParseInt(env["SLURM_JOB_END_TIME"], 10, 64); err == nil && at > 0 {
		a.Until = time.Unix(at, 0)
		return a, nil
	}
	until, err := c.endOf(ctx, a.Job)
	a.Until = until
	return a, err
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// endOf is when a job ends at the latest; zero = it has no limit.
func (c *Client) endOf(ctx context.Context, job string) (time.Time, error) {
	s, err := c.run(ctx, nil, "squeue", "--noheader", "--jobs="+job, "--format=%e")
	if err != nil {
		return time.Time{}, fmt.Errorf("ask Slurm when this job ends: %w", unanswered(err))
	}
	at, err := strconv.ParseInt(strings.TrimSpace(s.out), 10, 64)
	if err != nil || at <= 0 {
		return time.Time{}, nil // "N/A": there is no limit
	}
	return time.Unix(at, 0), nil
}
