package slurm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// refusedAgain is the pause after a refusal that may be otherwise later.
const refusedAgain = 30 * time.Second

// submitAll calls sbatch for attempts that have no job, as many at a time as is good.
func (b *Backend) submitAll(ctx context.Context, calls *sync.WaitGroup) {
	if b.down != "" {
		return
	}
	now := b.opts.Now()
	for _, j := range b.jobs {
		if b.submits >= mostSubmits {
			return
		}
		if j.submitting || !j.whole || j.stop || j.ended || j.void || len(j.ids) > 0 || now.Before(j.notBefore) || !j.certain() {
			continue
		}
		if err := b.opts.Confirm(); err != nil {
			return
		}
		j.submitting = true
		b.submits++
		b.call(calls, func() func() {
			id, err := b.submit(ctx, j.task)
			return func() {
				b.submits--
				j.submitting = false
				b.submitted(ctx, j, id, err)
			}
		})
	}
}

// certain says that no job can be there: sbatch was never called, or its job was looked
// for, long enough after, in vain.
func (j *job) certain() bool {
	return j.intent.IsZero() || j.listed.Sub(j.intent) >= j.b.doubt() && !j.dir.claimed()
}

// errUnprepared: sbatch was not called.
var errUnprepared = errors.New("the folder of the job cannot be written")

// submit writes the folder and calls sbatch.
func (b *Backend) submit(ctx context.Context, t task.Task) (id string, err error) {
	f := folder{b.layout, t.Ref()}
	if err := b.news.create(); err != nil {
		return "", fmt.Errorf("%w: %w", errUnprepared, err)
	}
	text, err := f.write(t, b.opts.Site(t.Spec.Class), b.news.path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUnprepared, err)
	}
	if err := f.intend(b.opts.Now()); err != nil {
		return "", fmt.Errorf("%w: %w", errUnprepared, err)
	}
	failpoint.Here("slurm/before-sbatch")
	name := nameOf(b.opts.QueueID, t.Ref())
	args := []string{
		"--job-name=" + name, "--comment=" + name, "--output=" + pattern(b.layout.LogPath(t.Ref())), "--open-mode=append",
		"--export=ALL", "--chdir=/", "--no-requeue",
	}
	id, err = b.opts.Slurm.Submit(ctx, text, args...)
	failpoint.Here("slurm/after-sbatch")
	return id, err
}

// pattern is a path as the name of an output, in which sbatch replaces what follows "%".
func pattern(path string) string { return strings.ReplaceAll(path, "%", "%%") }

// submitted takes in what sbatch answered.
func (b *Backend) submitted(ctx context.Context, j *job, id string, err error) {
	var refused *RefusedError
	now := b.opts.Now()
	switch {
	case err == nil:
		j.intent = now
		j.learn(id)
		j.tellLaunched(id)
		b.opts.Logger.Info("submitted a slurm job", "task", j.ref.Seq, "attempt", j.ref.Attempt, "job", id)
	case errors.As(err, &refused) && refused.Later:
		j.intent = time.Time{} // it was an answer: there is no job
		j.notBefore = now.Add(refusedAgain)
		j.tellNote("Slurm does not accept it for now: " + refused.Text)
	case errors.As(err, &refused):
		j.refuse(refused.Text)
	case errors.Is(err, errUnprepared):
		j.notBefore = now.Add(refusedAgain / 10)
		j.tellNote(err.Error())
		b.opts.Logger.Warn("cannot prepare a slurm job; will try again", "task", j.ref.Seq, "error", err)
	case errors.Is(err, ErrMissing):
		j.intent = time.Time{}
		b.setDown(err)
	default:
		j.intent = now
		if ctx.Err() == nil {
			b.opts.Logger.Warn("sbatch gave no answer; the job is looked for before it is submitted again", "task", j.ref.Seq, "attempt", j.ref.Attempt, "error", err)
			j.tellNote("sbatch gave no answer: looking whether Slurm has the job")
		}
	}
}

// refuse ends an attempt that Slurm does not want.
func (j *job) refuse(text string) {
	if void, err := j.dir.takeClaim(); err != nil || !void {
		j.notBefore = j.b.opts.Now().Add(refusedAgain / 10)
		return // an earlier one works, or the folder is out of reach: it is looked at again
	}
	j.void = true
	j.notStarted(task.UserError, "Slurm refused the job: "+text)
}

var _ = failpoint.Declare("slurm/before-sbatch", "slurm/after-sbatch")
