package app

import (
	"fmt"

	"github.com/dspy-agent/dspy-agent/slurm"
)

// newSlurm makes the backend for jobs. Whether there is a Slurm it finds out by itself,
// and again and again: without one such tasks wait and say so.
func (a *App) newSlurm(environ []string) (*slurm.Backend, error) {
	b, err := slurm.New(slurm.Options{
		QueueID: a.queue.ID(), TasksDir: a.tasksDir(), Slurm: &slurm.Client{Env: slurm.Environment(environ)}, Logger: a.log.With("component", "slurm"),
		Confirm: a.queue.ConfirmLease, Needed: a.needed,
		Site: func(class string) slurm.Site {
			j := a.conf.SlurmJob(class)
			return slurm.Site{
				Partition: j.Partition, Account: j.Account, QOS: j.QOS, Constraint: j.Constraint,
				Walltime: j.Walltime, Directives: j.Directives, Setup: j.Setup,
			}
		},
		ResultLimit: a.conf.Output.MaxResultBytes,
	})
	if err != nil {
		return nil, fmt.Errorf("set up the slurm backend: %w", err)
	}
	return b, nil
}
