package template

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/directive"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Site is what the configuration says about the jobs of a class, as a Go template sees it.
type Site struct {
	Partition, Account, QOS, Constraint string
	Walltime                            time.Duration
}

// Data is what a Go template is executed with: numbers, and words of the configuration.
type Data struct {
	Class    string
	GPUs     int
	CPUs     int
	MemoryMB int64
	Minutes  int64 // of the task's time limit, else of the configured one; 0 = none
	Command  bool  // the task has a command, which is "$@"

	Partition, Account, QOS, Constraint string
}

// Job is what a template makes of a task.
type Job struct {
	Options []directive.Option
	// Unused are directives that were left out, and why.
	Unused []string
	// Dir is the folder to work in; "" = the task's own.
	Dir string
	// Interpreter reads Body.
	Interpreter []string
	Body        string
	// Env are the values that the body mentions, "K=V".
	Env []string
}

// Render makes the job of a task. An error is one with CodeInvalid.
func (t *Template) Render(s *task.Spec, site Site) (Job, error) {
	j, err := t.render(s, site)
	if err != nil {
		return Job{}, task.Errorf(task.CodeInvalid, "template %s: %w", t.Name, err)
	}
	return j, nil
}

func (t *Template) render(s *task.Spec, site Site) (Job, error) {
	sc := t.script
	if t.source != nil {
		var text limited
		if err := t.source.Execute(&text, dataOf(s, site)); err != nil {
			return Job{}, err
		}
		var err error
		if sc, err = parseScript(text.String()); err != nil {
			return Job{}, fmt.Errorf("what it makes: %w", err)
		}
	}
	v, err := valuesOf(s)
	if err != nil {
		return Job{}, err
	}
	j := Job{Interpreter: sc.interpreter(), Body: sc.text}
	for _, o := range sc.options {
		if err := j.take(o, v); err != nil {
			return Job{}, fmt.Errorf("line %d: %w", o.line, err)
		}
	}
	for _, n := range sc.behind {
		j.Unused = append(j.Unused, fmt.Sprintf("line %d stands behind the first command, where sbatch reads no directives", n))
	}
	j.Env, err = v.variables(sc.mentions)
	return j, err
}

// take adds an option with its value filled in.
func (j *Job) take(o placed, v values) (err error) {
	if o.Ours() {
		if o.Name != "chdir" {
			j.Unused = append(j.Unused, fmt.Sprintf("line %d: --%s is set by the scheduler", o.line, o.Name))
			return nil
		}
		if j.Dir, err = v.fill(o.Value); err == nil && strings.ContainsRune(j.Dir, 0) {
			err = errors.New("--chdir: no folder has a NUL in its name")
		}
		return err
	}
	if o.Value, err = v.fill(o.Value); err != nil {
		return err
	}
	if err := o.Check(); err != nil {
		return err
	}
	j.Options = append(j.Options, o.Option)
	return nil
}

// In returns the folder to work in, for a task that was to work in another.
func (j Job) In(dir string) string {
	switch {
	case j.Dir == "":
		return dir
	case filepath.IsAbs(j.Dir):
		return j.Dir
	default:
		return filepath.Join(dir, j.Dir)
	}
}

var className = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)

func dataOf(s *task.Spec, site Site) Data {
	limit := s.Timeout
	if limit <= 0 {
		limit = site.Walltime
	}
	d := Data{
		GPUs: s.Resources.GPUs, CPUs: int((s.Resources.CPUMilli + 999) / 1000), MemoryMB: (s.Resources.MemBytes + 1<<20 - 1) >> 20,
		Minutes: int64((limit + time.Minute - 1) / time.Minute), Command: len(s.Argv) > 0,
		Partition: site.Partition, Account: site.Account, QOS: site.QOS, Constraint: site.Constraint,
	}
	if className.MatchString(s.Class) {
		d.Class = s.Class
	}
	return d
}

// limited is a text that does not grow without end.
type limited struct{ strings.Builder }

// Write takes what there is room for.
func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > MaxBytes {
		return 0, fmt.Errorf("the script would be longer than %d bytes", MaxBytes)
	}
	return l.Builder.Write(p)
}
