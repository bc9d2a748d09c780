package slurm

import (
	"context"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/directive"
	"github.com/dspy-agent/dspy-agent/internal/shellword"
	"github.com/dspy-agent/dspy-agent/internal/task"
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

// options are what the job asks for, as that of a task does: one voice behind the other.
func (j WorkerJob) options() ([]directive.Option, error) {
	defaults, err := j.Site.defaults()
	if err != nil {
		return nil, err
	}
	res := task.Resources{CPUMilli: int64(j.CPUs) * 1000, MemBytes: j.MemBytes, GPUs: j.GPUs}
	asked, err := options([]pair{{"cpus-per-task", cpus(res)}, {"mem", memory(res)}, {"gres", gres(res)}})
	if err != nil {
		return nil, err
	}
	last, err := j.Site.last()
	if err != nil {
		return nil, err
	}
	// The shell alone gets it, which is the worker by then; its tasks do not. What the
	// configuration has others sent would kill it.
	warning, err := options([]pair{{"signal", "B:TERM@60"}})
	return directive.Merge(defaults, asked, last, warning), err
}

// script is what sbatch is given. Its values are checked or quoted.
func (j WorkerJob) script() ([]byte, error) {
	asked, err := j.options()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString("#!/bin/bash\n")
	for _, o := range asked {
		b.WriteString("#SBATCH " + o.String() + "\n")
	}
	for _, line := range j.Site.Setup {
		b.WriteString(line + "\n")
	}
	for _, kv := range j.Env {
		b.WriteString("export " + shellword.Always(kv) + "\n")
	}
	b.WriteString("exec")
	for _, word := range j.Argv {
		b.WriteString(" " + shellword.Always(word))
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
