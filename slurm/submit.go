package slurm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// refusedAgain is the pause after a refusal that may be otherwise later.
const refusedAgain = 30 * time.Second

// submitAll calls sbatch for attempts that have no job, as many at a time as is good, in
// the order of our line: Slurm's begins as the jobs come.
func (b *Backend) submitAll(ctx context.Context, calls *sync.WaitGroup) {
	if b.down != "" || b.submits >= mostSubmits {
		return
	}
	now := b.opts.Now()
	for _, j := range slices.SortedFunc(maps.Values(b.unsent), inLine) {
		if b.submits >= mostSubmits {
			return
		}
		if j.submitting || !j.unsent() || now.Before(j.notBefore) || !j.certain() {
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
				b.touch(j)
				b.submitted(ctx, j, id, err)
			}
		})
	}
}

// inLine compares two attempts by their places in the line.
func inLine(a, b *job) int {
	return cmp.Or(cmp.Compare(a.task.Spec.Order(), b.task.Spec.Order()), cmp.Compare(a.ref.Seq, b.ref.Seq))
}

// unsent says that there is to be a job, and we know of none.
func (j *job) unsent() bool {
	return j.whole && !j.stop && !j.ended && !j.void && len(j.ids) == 0
}

// certain says that no job can be there: sbatch was never called, or its job was looked
// for, long enough after, in vain.
func (j *job) certain() bool {
	return j.intent.IsZero() || j.listed.Sub(j.intent) >= j.b.doubt() && !j.dir.claimed()
}

// errUnprepared: sbatch was not called.
var errUnprepared = errors.New("the job cannot be prepared")

// unprepared sorts what went wrong before sbatch was called: what is wrong with the task or
// its template is an answer; all else may be otherwise in a moment, be it a template that
// cannot be read now or a folder that cannot be written.
func unprepared(err error) error {
	if task.CodeOf(err) == task.CodeInvalid {
		return fmt.Errorf("%w: %w", errUnprepared, &unfitError{err})
	}
	return fmt.Errorf("%w: %w", errUnprepared, err)
}

// unfitError is that no job can be made of a task.
type unfitError struct{ err error }

func (e *unfitError) Error() string { return e.err.Error() }

// submit writes the folder and calls sbatch.
func (b *Backend) submit(ctx context.Context, t task.Task) (id string, err error) {
	f := folder{b.layout, t.Ref()}
	if err := b.news.create(); err != nil {
		return "", unprepared(err)
	}
	from, err := b.opts.Template(t.Spec)
	if err != nil {
		return "", unprepared(err)
	}
	p, err := planOf(t.Spec, t.Ref(), b.opts.Site(t.Spec.Class), from)
	if err != nil {
		return "", unprepared(err)
	}
	text, err := f.write(p, b.news.path)
	if err != nil {
		return "", unprepared(err)
	}
	if err := f.intend(b.opts.Now()); err != nil {
		return "", unprepared(err)
	}
	failpoint.Here("slurm/before-sbatch")
	name := nameOf(b.opts.QueueID, t.Ref())
	id, err = b.opts.Slurm.Submit(ctx, text, p.args(name, b.layout.LogPath(t.Ref()))...)
	failpoint.Here("slurm/after-sbatch")
	return id, err
}

// pattern is a path as the name of an output, in which sbatch replaces what follows "%".
func pattern(path string) string { return strings.ReplaceAll(path, "%", "%%") }

// submitted takes in what sbatch answered.
func (b *Backend) submitted(ctx context.Context, j *job, id string, err error) {
	var refused *RefusedError
	var unfit *unfitError
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
		j.refuse("Slurm refused the job: " + refused.Text)
	case errors.As(err, &unfit):
		j.refuse(unfit.Error())
	case errors.Is(err, errUnprepared):
		j.notBefore = now.Add(refusedAgain / 10)
		j.tellNote(err.Error())
		if b.said.due(now, "prepare", j.ref, err) {
			b.opts.Logger.Warn("cannot prepare a slurm job; will try again", "task", j.ref.Seq, "error", err)
		}
	case errors.Is(err, ErrMissing):
		j.intent = time.Time{}
		b.setDown(err)
	default:
		j.intent = now
		if ctx.Err() == nil {
			if b.said.due(now, "sbatch", task.Ref{}, err) { // of a controller that is away, not of each task
				b.opts.Logger.Warn("sbatch gave no answer; the job is looked for before it is submitted again", "task", j.ref.Seq, "attempt", j.ref.Attempt, "error", err)
			}
			j.tellNote("sbatch gave no answer: looking whether Slurm has the job")
		}
	}
}

// refuse ends an attempt of which there will be no job.
func (j *job) refuse(text string) {
	if void, err := j.dir.takeClaim(); err != nil || !void {
		j.notBefore = j.b.opts.Now().Add(refusedAgain / 10)
		return // an earlier one works, or the folder is out of reach: it is looked at again
	}
	j.void = true
	j.notStarted(task.UserError, text)
}

var _ = failpoint.Declare("slurm/before-sbatch", "slurm/after-sbatch")
