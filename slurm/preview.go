package slurm

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
	"github.com/dspy-agent/dspy-agent/slurm/template"
)

// Preview is a job as it would be submitted.
type Preview struct {
	Args   []string // of sbatch, beside the script
	Script string
	Argv   []string // what the job runs
	Dir    string   // and where
	// Template is the path of the template, Body what is made of it: a file that the job runs.
	Template, Body string
	// Values are the values of the payload that the job's environment gets, "K=V".
	Values []string
	// Unused says what of the template has no effect.
	Unused []string
}

// PreviewOf makes the preview of a task's job. Nothing is written, and Slurm is not asked.
func PreviewOf(spec *task.Spec, ref task.Ref, tasksDir string, site Site, from *template.Template) (Preview, error) {
	p, err := planOf(spec, ref, site, from)
	if err != nil {
		return Preview{}, err
	}
	f := folder{taskfiles.Layout{Dir: tasksDir}, ref}
	out := Preview{
		Args:   p.args(nameOf("QUEUE", ref), f.layout.LogPath(ref)),
		Script: string(p.script(f.layout.JobDir(f.ref), newsPath(f.layout))), Argv: p.argv(f.path(bodyFile)), Dir: p.dir(),
		Body: p.job.Body, Values: p.job.Env, Unused: p.words(),
	}
	if from != nil {
		out.Template = from.Path
	}
	return out, nil
}

// Start is when and where a job would begin, if it were submitted now.
type Start struct {
	At        time.Time // zero = Slurm does not say
	CPUs      int
	Nodes     string
	Partition string
	Text      string // Slurm's words
}

// Test asks Slurm what would become of a job. An error is a *RefusedError when it would
// be refused.
func (c *Client) Test(ctx context.Context, p Preview) (Start, error) {
	s, err := c.run(ctx, []byte(p.Script), "sbatch", append([]string{"--test-only"}, p.Args...)...)
	if err == nil {
		return parseStart(s.err), nil
	}
	if r := refusalIn(strings.ReplaceAll(s.err, "allocation failure: ", "failed: ")); r != nil {
		return Start{}, r
	}
	return Start{}, err
}

var startLine = regexp.MustCompile(`^sbatch: Job \d+ to start at (\S+) using (\d+) processors on nodes (\S+) in partition (\S+)`)

// parseStart reads what sbatch --test-only says.
func parseStart(text string) Start {
	for line := range strings.Lines(text) {
		m := startLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		s := Start{CPUs: count(m[2]), Nodes: m[3], Partition: m[4], Text: strings.TrimSpace(line)}
		if sec, err := strconv.ParseInt(m[1], 10, 64); err == nil && sec > 0 {
			s.At = time.Unix(sec, 0)
		}
		return s
	}
	return Start{Text: strings.TrimSpace(text)}
}
