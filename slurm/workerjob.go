package slurm

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/directive"
)

// WorkerJob is a job that runs a worker.
type WorkerJob struct {
	Name       string // and comment; anybody on the cluster sees it
	OutputDir  string // where its output goes, as NUMBER.out
	CPUs, GPUs int
	MemBytes   int64
	Site       Site // Walltime is the job's
	Argv       []string
	Env        []string // "K=V", beside what jobs are given
}

// script is what sbatch is given. Its values are checked or quoted.
func (j WorkerJob) script() ([]byte, error) {
	var b strings.Builder
	b.WriteString("#!/bin/bash\n")
	gres, mem, limit := "", "", ""
	if j.GPUs > 0 {
		gres = "gpu:" + strconv.Itoa(j.GPUs)
	}
	if j.MemBytes > 0 {
		mem = strconv.FormatInt((j.MemBytes+1<<20-1)>>20, 10) + "M"
	}
	if j.Site.Walltime > 0 {
		limit = strconv.FormatInt(int64((j.Site.Walltime+time.Minute-1)/time.Minute), 10)
	}
	for _, d := range []struct{ key, value string }{
		{"partition", j.Site.Partition}, {"account", j.Site.Account}, {"qos", j.Site.QOS}, {"constraint", j.Site.Constraint},
		{"time", limit}, {"cpus-per-task", strconv.Itoa(j.CPUs)}, {"mem", mem}, {"gres", gres},
		// The shell alone gets it, which is the worker by then; its tasks do not.
		{"signal", "B:TERM@60"},
	} {
		if d.value == "" {
			continue
		}
		if err := directive.Value(d.value); err != nil {
			return nil, fmt.Errorf("--%s: %w", d.key, err)
		}
		b.WriteString("#SBATCH --" + d.key + "=" + d.value + "\n")
	}
	for _, d := range j.Site.Directives {
		if err := directive.Line(d); err != nil {
			return nil, err
		}
		b.WriteString("#SBATCH " + d + "\n")
	}
	for _, line := range j.Site.Setup {
		b.WriteString(line + "\n")
	}
	for _, kv := range j.Env {
		b.WriteString("export " + quoted(kv) + "\n")
	}
	b.WriteString("exec")
	for _, word := range j.Argv {
		b.WriteString(" " + quoted(word))
	}
	b.WriteString("\n")
	return []byte(b.String()), nil
}

// SubmitWorker submits it. Errors are those of Submit.
func (c *Client) SubmitWorker(ctx context.Context, j WorkerJob) (job string, err error) {
	text, err := j.script()
	if err != nil {
		return "", &RefusedError{Text: err.Error()}
	}
	return c.Submit(ctx, text, "--job-name="+j.Name, "--comment="+j.Name, "--output="+pattern(j.OutputDir)+"/%j.out", "--open-mode=append", "--export=ALL", "--chdir=/", "--no-requeue")
}

// Named returns the numbers of the user's jobs of that name: those that wait, and those
// that work.
func (c *Client) Named(ctx context.Context, name string) (pending, working []string, err error) {
	jobs, err := c.Queue(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	for _, j := range jobs {
		switch p := j.State.phase(); {
		case j.Name != name || p == gone:
		case p == waits:
			pending = append(pending, j.ID)
		default:
			working = append(working, j.ID)
		}
	}
	return pending, working, nil
}
