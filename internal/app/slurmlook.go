package app

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
	"github.com/dspy-agent/dspy-agent/slurm"
)

// What a command says about Slurm it finds out by itself: no daemon is asked.

type (
	// SlurmCluster is what a cluster has.
	SlurmCluster = slurm.Cluster
	// SlurmJob is a job as it would be submitted.
	SlurmJob = slurm.Preview
	// SlurmStart is when a job would begin.
	SlurmStart = slurm.Start
)

// LookAtSlurm asks the cluster what it has.
func LookAtSlurm(ctx context.Context, environ []string) (SlurmCluster, error) {
	c, err := slurmOf(environ).Cluster(ctx)
	return c, slurmTrouble(err)
}

// SlurmTemplates lists the templates of jobs.
func SlurmTemplates(conf config.Config) ([]string, error) { return newJobs(conf).templates.Names() }

// JobOfRequest is the job that would become of a submission. Its class has to be one that
// may go to Slurm.
func JobOfRequest(ctx context.Context, conf config.Config, req *pb.SubmitTaskRequest) (SlurmJob, error) {
	a := &App{conf: conf}
	s, err := api.SpecOf(ctx, api.Options{Class: a.resolver(), Types: a.taskTypes(), Jobs: newJobs(conf), Workspace: conf.Workspace}, req)
	if err != nil {
		return SlurmJob{}, err
	}
	if s.ID == "" {
		s.ID = "id"
	}
	if err := s.Validate(); err != nil {
		return SlurmJob{}, err
	}
	return newJobs(conf).preview(s, 1)
}

// JobOfTask is the job that would become of a task's next attempt.
func JobOfTask(conf config.Config, info *pb.TaskInfo) (SlurmJob, error) {
	s, err := api.SpecOfTask(info)
	if err != nil {
		return SlurmJob{}, err
	}
	return newJobs(conf).preview(s, task.Seq(info.GetSeq()))
}

func (j jobs) preview(s *task.Spec, seq task.Seq) (SlurmJob, error) {
	k, err := j.conf.Class(s.Class)
	if err != nil {
		return SlurmJob{}, err
	}
	backends := s.Backends
	if len(backends) == 0 {
		backends = k.Backends
	}
	if !slices.Contains(backends, slurm.Name) || s.Image != "" || s.Builtin == task.BuiltinEcho {
		return SlurmJob{}, task.Errorf(task.CodeInvalid, "it would be no job: class %s has backends %s, and what has an image, or is only echoed, runs on this machine", k.Name, strings.Join(k.Backends, ", "))
	}
	from, err := j.choose(s)
	if err != nil {
		return SlurmJob{}, err
	}
	return slurm.PreviewOf(s, task.Ref{Seq: seq, Attempt: 1}, filepath.Join(j.conf.QueueDir, "tasks"), siteOf(j.conf, s.Class), from)
}

// TestJob asks Slurm when a job would begin. What it refuses is an Error with CodeConflict.
func TestJob(ctx context.Context, environ []string, j SlurmJob) (SlurmStart, error) {
	s, err := slurmOf(environ).Test(ctx, j)
	if refused, ok := errors.AsType[*slurm.RefusedError](err); ok {
		return SlurmStart{}, task.Errorf(task.CodeConflict, "%w", refused)
	}
	return s, slurmTrouble(err)
}

// slurmPatience is how long a person waits for Slurm.
const slurmPatience = 15 * time.Second

func slurmOf(environ []string) *slurm.Client {
	return &slurm.Client{Env: slurm.Environment(environ), Patience: slurmPatience}
}

// slurmTrouble says what to do about a Slurm that cannot be asked.
func slurmTrouble(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, slurm.ErrMissing):
		return task.Errorf(task.CodeUnavailable, "%w; run this on a login node of the cluster, or after: module load slurm", err)
	default:
		return task.Errorf(task.CodeUnavailable, "%w; try sinfo: the administrators know more", err)
	}
}
