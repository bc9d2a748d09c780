package slurm

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/shellword"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

//go:embed wrapper.sh
var wrapper string

// script is what sbatch is given for an attempt. Nothing in it is text of the submitter:
// numbers, values that were checked, and paths of our own.
func (p plan) script(dir, news string) []byte {
	var b strings.Builder
	b.WriteString("#!/bin/bash\n")
	for _, o := range p.options {
		b.WriteString("#SBATCH " + o.String() + "\n")
	}
	grace := p.spec.Grace
	if grace <= 0 {
		grace = task.DefaultGrace
	}
	fmt.Fprintf(&b, "dspy_dir=%s\ndspy_news=%s\ndspy_ref=%d-%d\ndspy_limit=%s\ndspy_grace=%s\n", shellword.Always(dir), shellword.Always(news), p.ref.Seq, p.ref.Attempt,
		seconds(p.spec.Timeout), seconds(grace))
	b.WriteString(wrapper)
	return []byte(b.String())
}

// seconds rounds up: a limit must not strike early.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// spare is what a job has beyond the limit of its task: its start, and the note of its end.
const spare = time.Minute

// minutes is a time as Slurm counts it; "" = none.
func minutes(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return strconv.FormatInt(int64((d+time.Minute-1)/time.Minute), 10)
}

func cpus(r task.Resources) string {
	if r.CPUMilli <= 0 {
		return ""
	}
	return strconv.FormatInt((r.CPUMilli+999)/1000, 10)
}

func memory(r task.Resources) string {
	if r.MemBytes <= 0 {
		return ""
	}
	return strconv.FormatInt((r.MemBytes+1<<20-1)>>20, 10) + "M"
}

func gres(r task.Resources) string {
	if r.GPUs <= 0 {
		return ""
	}
	if r.GPUModel != "" {
		return "gpu:" + strings.ToLower(r.GPUModel) + ":" + strconv.Itoa(r.GPUs)
	}
	return "gpu:" + strconv.Itoa(r.GPUs)
}
