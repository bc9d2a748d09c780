package slurm

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

const (
	// slowFactor is how much rarer squeue is called while it can only tell why jobs wait.
	slowFactor = 5
	// idlePeriod is how often it is called without any job, to see whether it answers and
	// whether a job of ours was left over.
	idlePeriod = 2 * time.Minute
	// missingPeriod is how often Slurm is looked for where there is none.
	missingPeriod = time.Minute
	// leftoverGrace is how long a job that no task knows is left alone.
	leftoverGrace = 30 * time.Second
)

// listPeriod is the time between two calls of squeue now.
func (b *Backend) listPeriod() time.Duration {
	switch {
	case b.absent:
		return missingPeriod
	case b.failures > 0:
		return min(b.opts.QueuePeriod<<min(b.failures, 4), time.Minute)
	}
	if len(b.leftover) > 0 {
		return min(b.period, leftoverGrace/3)
	}
	return b.period
}

// busyPeriod is what the attempts ask for, as they are now. What is only a matter of time
// makes it longer, and is seen after the next call.
func (b *Backend) busyPeriod() time.Duration {
	period := idlePeriod
	for _, j := range b.jobs {
		switch {
		case j.ended:
		case j.urgent():
			return b.opts.QueuePeriod
		default:
			period = min(period, slowFactor*b.opts.QueuePeriod)
		}
	}
	return period
}

// urgent says that something about the job waits for the word of squeue.
func (j *job) urgent() bool {
	switch {
	case j.submitting, j.intent.IsZero():
		return false
	case j.stop, len(j.ids) == 0, j.record.Exited, len(j.missing) > 0, !j.over.IsZero(), len(j.ids) > 1:
		return true
	default: // its state is to be seen soon after it was submitted
		return !j.listed.After(j.known) || j.b.opts.Now().Sub(j.known) < 10*time.Second
	}
}

// list calls squeue, if it is time.
func (b *Backend) list(ctx context.Context, calls *sync.WaitGroup) {
	now := b.opts.Now()
	if b.listing || !b.listed.IsZero() && now.Sub(b.listed) < b.listPeriod() {
		return
	}
	b.listing, b.listed = true, now
	ask := b.settings == Settings{}
	b.call(calls, func() func() {
		var settings Settings
		var err error
		if ask {
			settings, err = b.opts.Slurm.Settings(ctx)
		}
		var jobs []Job
		if err == nil {
			jobs, err = b.opts.Slurm.Queue(ctx, prefixOf(b.opts.QueueID))
		}
		return func() {
			b.listing = false
			if ctx.Err() != nil {
				return
			}
			if ask && err == nil {
				b.settings = settings
			}
			b.setDown(err)
			if err != nil {
				b.failures++
				return
			}
			b.failures = 0
			b.take(jobs, now)
		}
	})
}

// take takes in what squeue said when it was called at a time.
func (b *Backend) take(jobs []Job, at time.Time) {
	byRef := map[task.Ref][]Job{}
	for _, row := range jobs {
		if ref, ok := refOf(b.opts.QueueID, row.Name); ok {
			byRef[ref] = append(byRef[ref], row)
		}
	}
	for ref, j := range b.jobs {
		j.see(byRef[ref], at)
		b.touch(j)
	}
	b.takeLeftovers(byRef, at)
}

// see takes in what squeue said about the jobs of an attempt.
func (j *job) see(rows []Job, at time.Time) {
	j.listed = at
	j.rows = map[string]Job{}
	for _, row := range rows {
		j.rows[row.ID] = row
		j.learn(row.ID)
	}
	for _, id := range j.ids {
		_, there := j.rows[id]
		switch {
		case there:
			delete(j.missing, id)
		case j.missing[id].IsZero() && at.After(j.known):
			j.missing[id] = at
		}
	}
	if len(rows) > 0 || len(j.missing) > 0 || j.record.Exited {
		j.reread() // the news may have been lost
	}
}

// takeLeftovers looks for jobs that no attempt here knows.
func (b *Backend) takeLeftovers(byRef map[task.Ref][]Job, at time.Time) {
	found := map[string]time.Time{}
	for ref, rows := range byRef {
		if j := b.jobs[ref]; j != nil && !j.ended {
			continue
		}
		for _, row := range rows {
			if p := row.State.phase(); p == gone || p == leaves {
				continue
			}
			since, before := b.leftover[row.ID]
			if !before {
				since = at
			}
			found[row.ID] = since
			if needed, err := b.opts.Needed(ref); err != nil || needed && b.jobs[ref] == nil {
				found[row.ID] = at // it may be taken up yet
			}
		}
	}
	b.leftover = found
}

// ripe are the jobs left over that are to be cancelled.
func (b *Backend) ripe() (ids []string) {
	for id, since := range b.leftover {
		if b.listed.Sub(since) >= leftoverGrace {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// cancelAll calls scancel for what is to end.
func (b *Backend) cancelAll(ctx context.Context, calls *sync.WaitGroup) {
	if b.ending || b.down != "" || b.opts.Confirm() != nil {
		return
	}
	now := b.opts.Now()
	ids := b.ripe()
	for _, j := range b.doomed {
		if len(ids) >= mostCancels {
			break
		}
		if now.Sub(j.cancelled) < repeatCancel {
			continue
		}
		j.cancelled = now
		ids = append(ids, j.toCancel()...)
	}
	if len(ids) == 0 {
		return
	}
	b.ending = true
	b.call(calls, func() func() {
		err := b.opts.Slurm.Cancel(ctx, ids...)
		return func() {
			b.ending = false
			for _, id := range ids {
				delete(b.leftover, id)
			}
			if err != nil && ctx.Err() == nil && !errors.Is(err, ErrUnanswered) && b.said.due(b.opts.Now(), "scancel", task.Ref{}, err) {
				b.opts.Logger.Warn("scancel failed; will try again", "jobs", ids, "error", err)
			}
		}
	})
}

// toCancel are the jobs of an attempt that have no reason to be there: all when it is to
// end, else all but the one that works, or was first.
func (j *job) toCancel() (ids []string) {
	keep := j.claimant()
	if keep == "" && len(j.ids) > 0 {
		keep = j.ids[0]
	}
	for _, id := range j.ids {
		row, there := j.rows[id]
		if !there && !j.listed.Before(j.known) || there && (row.State.phase() == gone || row.State.phase() == leaves) {
			continue
		}
		if j.void || j.ended || j.stop && j.signal.sent() || id != keep {
			ids = append(ids, id)
		}
	}
	return ids
}
