package slurm

import (
	"fmt"
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/directive"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/slurm/template"
)

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

// plan is what becomes of an attempt: the options of its job, and what the job runs.
type plan struct {
	spec    *task.Spec
	ref     task.Ref
	site    Site
	options []directive.Option
	from    *template.Template // nil = of none
	job     template.Job       // what the template makes of the task
}

// planOf makes the plan of an attempt. Everything that can be wrong with its job, as far
// as it can be told without Slurm, is wrong here.
func planOf(spec *task.Spec, ref task.Ref, site Site, from *template.Template) (plan, error) {
	p := plan{spec: spec, ref: ref, site: site, from: from}
	if from == nil && spec.Builtin == task.BuiltinTemplate {
		return plan{}, task.Errorf(task.CodeInvalid, "the task is a template, and there is none for it any more: submit it again with a command, or put the template back")
	}
	if from != nil {
		var err error
		if p.job, err = from.Render(spec, template.Site{Partition: site.Partition, Account: site.Account, QOS: site.QOS, Constraint: site.Constraint, Walltime: site.Walltime}); err != nil {
			return plan{}, err
		}
	}
	defaults, err := site.defaults()
	if err != nil {
		return plan{}, err
	}
	limit := spec.EnforcedLimit()
	if limit > 0 {
		limit += spare
	}
	res := spec.Resources
	asked, err := options([]pair{{"time", minutes(limit)}, {"cpus-per-task", cpus(res)}, {"mem", memory(res)}, {"gres", gres(res)}})
	if err != nil {
		return plan{}, err
	}
	last, err := site.last()
	if err != nil {
		return plan{}, err
	}
	p.options = directive.Merge(defaults, p.job.Options, asked, last)
	return p, nil
}

// pair is an option with its value; "" = it is left out.
type pair struct{ name, value string }

func options(pairs []pair) ([]directive.Option, error) {
	var out []directive.Option
	for _, p := range pairs {
		if p.value == "" {
			continue
		}
		if err := directive.Value(p.value); err != nil {
			return nil, task.Errorf(task.CodeInvalid, "--%s: %w", p.name, err)
		}
		out = append(out, directive.Option{Name: p.name, Value: p.value, Has: true})
	}
	return out, nil
}

// defaults are what the configuration says where nobody else does.
func (s Site) defaults() ([]directive.Option, error) {
	return options([]pair{
		{"partition", s.Partition}, {"account", s.Account}, {"qos", s.QOS}, {"constraint", s.Constraint}, {"time", minutes(s.Walltime)},
	})
}

// last are the directives of the configuration, which have the last word.
func (s Site) last() ([]directive.Option, error) {
	var out []directive.Option
	for _, line := range s.Directives {
		if err := directive.Line(line); err != nil {
			return nil, task.Errorf(task.CodeInvalid, "%w", err)
		}
		o, err := directive.Parse(line)
		if err != nil {
			return nil, task.Errorf(task.CodeInvalid, "directive %q: %w", line, err)
		}
		out = append(out, o...)
	}
	return out, nil
}

// args are what sbatch is told beside the script, and wins over it.
func (p plan) args(name, log string) []string {
	args := []string{
		"--job-name=" + name, "--comment=" + name, "--output=" + pattern(log), "--open-mode=append", "--export=ALL", "--chdir=/",
	}
	if !slices.Contains(p.options, directive.Option{Name: "requeue"}) {
		args = append(args, "--no-requeue")
	}
	return args
}

// argv is what the job runs; body is where the template's script lies.
func (p plan) argv(body string) []string {
	if p.from == nil {
		return p.spec.Argv
	}
	return slices.Concat(p.job.Interpreter, []string{body}, p.spec.Argv)
}

// dir is where it runs.
func (p plan) dir() string { return p.job.In(p.spec.Dir) }

// words says what was left out of the template.
func (p plan) words() []string {
	var out []string
	for _, w := range p.job.Unused {
		out = append(out, fmt.Sprintf("template %s: %s", p.from.Name, w))
	}
	return out
}

// Check says what is wrong with the job that a task would become: an Error with
// CodeInvalid. The task may not have an id yet.
func Check(s *task.Spec, site Site, from *template.Template) error {
	spec := *s
	if spec.ID == "" {
		spec.ID = "id"
	}
	_, err := planOf(&spec, task.Ref{}, site, from)
	return err
}
