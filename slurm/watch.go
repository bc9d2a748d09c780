package slurm

import (
	"context"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

const (
	// mostSubmits is how many calls of sbatch are under way at a time. A controller takes
	// them one after the other.
	mostSubmits = 4
	// mostCancels is how many jobs one scancel is given.
	mostCancels = 200
	// repeatCancel is how often a job that does not end is cancelled once more.
	repeatCancel = 15 * time.Second
)

// Watch reports until ctx ends.
func (b *Backend) Watch(ctx context.Context, active []task.Task, sink func([]task.Change)) error {
	var calls sync.WaitGroup
	defer calls.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := b.adopt(active); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		b.mu.Lock()
		b.round(ctx, &calls)
		changes, news := b.out, b.turned || len(b.out) > 0
		b.out, b.turned = nil, false
		timer.Reset(b.pause())
		b.mu.Unlock()
		if news {
			sink(changes)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.poke:
		case <-timer.C:
		case done := <-b.results:
			b.mu.Lock()
			done()
			b.mu.Unlock()
		}
	}
}

// adopt takes in the attempts that were active when we began.
func (b *Backend) adopt(active []task.Task) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range active {
		// What was only placed is handed over again, or stopped, by the engine.
		if _, known := b.jobs[t.Ref()]; known || t.State() == task.Assigned {
			continue
		}
		j := b.newJob(t)
		if err := j.recall(); err != nil {
			return err
		}
		b.jobs[t.Ref()] = j
		b.touch(j)
		if j.intent.IsZero() && !j.void {
			j.end(task.Change{Event: task.Event{
				Kind: task.EventVanished, At: j.now(), Class: task.Vanished,
				Text: "the folder of its Slurm job, " + b.layout.JobDir(j.ref) + ", is gone, so that nobody knows how it ended",
			}})
		}
	}
	return nil
}

// round does what is to be done now. The mutex is held.
func (b *Backend) round(ctx context.Context, calls *sync.WaitGroup) {
	b.readNews()
	b.settleFresh()
	b.submitAll(ctx, calls)
	b.cancelAll(ctx, calls)
	b.askHistory(ctx, calls)
	b.list(ctx, calls)
}

// settleFresh does the next step of those attempts of which something may be new: a round
// comes four times a second, and of a thousand jobs most do nothing but run.
func (b *Backend) settleFresh() {
	if len(b.fresh) == 0 && b.period > 0 {
		return
	}
	fresh := b.fresh
	b.fresh = map[task.Ref]*job{}
	for ref, j := range fresh {
		if b.jobs[ref] != j {
			continue
		}
		b.settled++
		b.settle(j)
		keep(b.unsent, j, j.unsent())
		keep(b.curious, j, j.due && !j.ended)
		keep(b.doomed, j, len(j.toCancel()) > 0)
	}
	b.period = b.busyPeriod()
}

// keep has an attempt in a set, or not.
func keep(set map[task.Ref]*job, j *job, in bool) {
	if in {
		set[j.ref] = j
	} else {
		delete(set, j.ref)
	}
}

// call runs f beside the goroutine of Watch, which then does what f returns.
func (b *Backend) call(calls *sync.WaitGroup, f func() func()) {
	calls.Go(func() {
		b.results <- f()
	})
}

// readNews reads the records of those who have news.
func (b *Backend) readNews() {
	refs, all, err := b.news.read()
	if err != nil {
		if b.said.due(b.opts.Now(), "news", task.Ref{}, err) {
			b.opts.Logger.Warn("cannot read the news of jobs; squeue tells them later", "error", err)
		}
		return
	}
	if all {
		for _, j := range b.jobs {
			j.reread()
		}
		return
	}
	for _, ref := range refs {
		if j := b.jobs[ref]; j != nil {
			j.reread()
		}
	}
}

// reread reads what the job noted.
func (j *job) reread() {
	if j.ended || j.intent.IsZero() {
		return
	}
	r, known, err := j.dir.record()
	j.b.touch(j)
	if err != nil {
		if j.b.said.due(j.b.opts.Now(), "record", j.ref, err) {
			j.b.opts.Logger.Warn("cannot read the record of a job; will try again", "task", j.ref.Seq, "error", err)
		}
		return
	}
	if !known {
		return
	}
	j.record = r
	if r.Exited && j.heard.IsZero() {
		j.heard = j.b.opts.Now()
	}
}

// pause is how long nothing has to be looked at.
func (b *Backend) pause() time.Duration {
	if len(b.jobs) == 0 {
		return b.listPeriod()
	}
	return min(b.opts.NewsPeriod, b.listPeriod())
}
