package app

import (
	"fmt"
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/slurm"
	"github.com/dspy-agent/dspy-agent/slurm/template"
)

// newSlurm makes the backend for jobs. Whether there is a Slurm it finds out by itself,
// and again and again: without one such tasks wait and say so.
func (a *App) newSlurm(environ []string) (*slurm.Backend, error) {
	b, err := slurm.New(slurm.Options{
		QueueID: a.queue.ID(), TasksDir: a.tasksDir(), Slurm: &slurm.Client{Env: slurm.Environment(environ)}, Logger: a.log.With("component", "slurm"),
		Confirm: a.queue.ConfirmLease, Needed: a.needed,
		Site:        func(class string) slurm.Site { return siteOf(a.conf, class) },
		Template:    newJobs(a.conf).choose, // they are there, whatever their class says by now
		ResultLimit: a.conf.Output.MaxResultBytes,
	})
	if err != nil {
		return nil, fmt.Errorf("set up the slurm backend: %w", err)
	}
	return b, nil
}

// siteOf translates what the configuration says about the jobs of a class.
func siteOf(conf config.Config, class string) slurm.Site {
	j := conf.SlurmJob(class)
	return slurm.Site{
		Partition: j.Partition, Account: j.Account, QOS: j.QOS, Constraint: j.Constraint,
		Walltime: j.Walltime, Directives: j.Directives, Setup: j.Setup,
	}
}

// jobs knows what becomes of tasks that go to Slurm, without asking it.
type jobs struct {
	conf      config.Config
	templates *template.Folder
}

var _ api.Jobs = jobs{}

func newJobs(conf config.Config) jobs { return jobs{conf, template.Open(conf.Slurm.Templates)} }

func (j jobs) choose(s *task.Spec) (*template.Template, error) {
	return j.templates.Choose(s.Payload, s.Class)
}

// chooseFor is choose for a task that may go elsewhere: one that never comes to Slurm does
// not need the folder of templates to be there.
func (j jobs) chooseFor(s *task.Spec) (*template.Template, error) {
	from, err := j.choose(s)
	if task.CodeOf(err) == task.CodeUnavailable && !template.Named(s.Payload) && !slices.Contains(j.backends(s), slurm.Name) {
		return nil, nil //nolint:nilnil // none is an answer
	}
	return from, err
}

// backends are those that a task may go to.
func (j jobs) backends(s *task.Spec) []string {
	if len(s.Backends) > 0 {
		return s.Backends
	}
	k, err := j.conf.Class(s.Class)
	if err != nil {
		return nil
	}
	return k.Backends
}

// Template says by which template a task becomes a job.
func (j jobs) Template(s *task.Spec) (api.Template, error) {
	from, err := j.chooseFor(s)
	if err != nil || from == nil {
		return api.Template{}, err
	}
	return api.Template{Name: from.Name, Named: template.Named(s.Payload)}, nil
}

// Check says what is wrong with the job of a task that is for Slurm alone, or has a
// template. Of others it is told when they get there, if they do.
func (j jobs) Check(s *task.Spec) error {
	from, err := j.chooseFor(s)
	if err != nil {
		return err
	}
	if from == nil && !slices.Equal(j.backends(s), []string{slurm.Name}) {
		return nil
	}
	return slurm.Check(s, siteOf(j.conf, s.Class), from)
}

// Only says that tasks of a class go to Slurm and nowhere else.
func (j jobs) Only(class string) bool {
	k, err := j.conf.Class(class)
	return err == nil && slices.Equal(k.Backends, []string{slurm.Name})
}

// Number is that of the job which a task became.
func (jobs) Number(t task.Task) string {
	if st := t.Status(); st.Backend == slurm.Name {
		return slurm.JobNumber(st.Handle)
	}
	return ""
}
