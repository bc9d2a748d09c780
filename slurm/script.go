package slurm

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/directive"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

//go:embed wrapper.sh
var wrapper string

// Site is what a configuration says about the jobs of a class.
type Site struct {
	Partition, Account, QOS, Constraint string
	// Walltime is the limit that Slurm is told where the task has none; 0 = the partition's.
	Walltime time.Duration
	// Directives are more of them, without "#SBATCH", such as "--mail-type=FAIL".
	Directives []string
	// Setup are lines that bash reads before the task: "module load cuda".
	Setup []string
}

// script is what sbatch is given for an attempt. Nothing in it is text of the submitter:
// numbers, values that were checked, and paths of our own.
func script(t task.Task, site Site, dir, news string) ([]byte, error) {
	var b strings.Builder
	b.WriteString("#!/bin/bash\n")
	lines, err := directives(t, site)
	if err != nil {
		return nil, err
	}
	for _, d := range lines {
		b.WriteString("#SBATCH " + d + "\n")
	}
	grace := t.Spec.Grace
	if grace <= 0 {
		grace = task.DefaultGrace
	}
	fmt.Fprintf(&b, "dspy_dir=%s\ndspy_news=%s\ndspy_ref=%d-%d\ndspy_limit=%s\ndspy_grace=%s\n", quoted(dir), quoted(news), t.Seq, t.Attempt(),
		seconds(t.Spec.Timeout), seconds(grace))
	b.WriteString(wrapper)
	return []byte(b.String()), nil
}

// seconds rounds up: a limit must not strike early.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// quoted makes one word of bash of any text.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// directives are the options of a job, one each.
func directives(t task.Task, site Site) ([]string, error) {
	var out []string
	add := func(key, value string) error {
		if value == "" {
			return nil
		}
		if err := directive.Value(value); err != nil {
			return fmt.Errorf("--%s: %w", key, err)
		}
		out = append(out, "--"+key+"="+value)
		return nil
	}
	res := t.Spec.Resources
	for _, d := range []struct{ key, value string }{
		{"partition", site.Partition}, {"account", site.Account}, {"qos", site.QOS}, {"constraint", site.Constraint},
		{"time", walltime(t.Spec, site)}, {"cpus-per-task", cpus(res)}, {"mem", memory(res)}, {"gres", gres(res)},
	} {
		if err := add(d.key, d.value); err != nil {
			return nil, err
		}
	}
	for _, d := range site.Directives {
		if err := directive.Line(d); err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// spare is what a job has beyond the limit of its task: its start, and the note of its end.
const spare = time.Minute

// walltime is minutes, which Slurm rounds to. The limit of the task strikes first, in the job.
func walltime(s *task.Spec, site Site) string {
	limit := site.Walltime
	if enforced := s.EnforcedLimit(); enforced > 0 {
		limit = enforced + spare
	}
	if limit <= 0 {
		return ""
	}
	return strconv.FormatInt(int64((limit+time.Minute-1)/time.Minute), 10)
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
