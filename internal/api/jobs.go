package api

import (
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/payload"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// backendSlurm is the backend whose tasks are jobs of a cluster.
const backendSlurm = "slurm"

// Jobs is what the server needs to know of tasks that become jobs of Slurm.
type Jobs interface {
	// Template says by which template a task becomes a job, as far as its class and its
	// payload tell. One that is named and not there is an Error with CodeInvalid; where that
	// cannot be told now, the Error has CodeUnavailable.
	Template(spec *task.Spec) (Template, error)
	// Check says what is wrong with the job that a task would become, as far as that can be
	// told without Slurm: an Error with CodeInvalid. Its id may be empty.
	Check(spec *task.Spec) error
	// Number is that of the job which a task became; "" = Slurm has not accepted it.
	Number(t task.Task) string
	// Only says that tasks of a class become jobs, and nothing else.
	Only(class string) bool
}

// Template is by what a task becomes a job; the zero Template is none.
type Template struct {
	Name  string
	Named bool // by the payload, so that the task is for Slurm and nothing else
}

// template chooses the template of a task that may go to Slurm.
func (s service) template(spec *task.Spec, class Class) (Template, error) {
	if s.opts.Jobs == nil || !class.Elsewhere || len(spec.Backends) > 0 && !slices.Contains(spec.Backends, backendSlurm) {
		return Template{}, nil
	}
	return s.opts.Jobs.Template(spec)
}

// throughTemplate fills in what the payload says of a task that becomes a job by a template.
func (s service) throughTemplate(spec *task.Spec, fields payload.Fields, through Template, reads bool) error {
	if spec.Image != "" {
		return task.Errorf(task.CodeInvalid, "the task has an image, and runs by template %s: give it as \"image\" in the payload, for a template that uses it", through.Name)
	}
	if reads {
		if err := payload.ResolveTemplate(fields, s.opts.Types, spec); err != nil {
			return err
		}
	}
	if spec.Image != "" || len(spec.Mounts) > 0 || spec.Network != "" || spec.ContainerDir != "" {
		return task.Errorf(task.CodeInvalid, "the task runs by template %s, which knows nothing of images, mounts and networks of this scheduler: leave them out, or give them to the template as values of the payload", through.Name)
	}
	if through.Named || spec.Builtin == task.BuiltinTemplate {
		spec.Backends = []string{backendSlurm}
	}
	return nil
}
