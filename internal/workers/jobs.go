package workers

import (
	"context"
	"sync"
	"time"
)

// How often at most Slurm is asked about the job of one worker that is not heard, and about
// any.
const (
	askJobEvery  = 10 * time.Second
	askJobsEvery = 2 * time.Second
)

// askJobs has Slurm asked whether the jobs of workers still work that are not heard: one
// call for all, and beside Watch, since a controller that does not answer takes long.
func (b *Backend) askJobs(ctx context.Context, calls *sync.WaitGroup, quiet []*member) {
	now := b.opts.Now()
	if b.opts.Jobs == nil || now.Sub(b.askedJobs) < askJobsEvery {
		return
	}
	var about []*member
	due := false
	for _, m := range quiet {
		if m.card.Job != "" && !b.gone(m) {
			about = append(about, m)
			due = due || now.Sub(m.asked) >= askJobEvery
		}
	}
	if !due || !b.asking.CompareAndSwap(false, true) {
		return
	}
	b.askedJobs = now
	jobs := make([]string, len(about))
	for i, m := range about {
		m.asked, jobs[i] = now, m.card.Job
	}
	calls.Go(func() {
		defer b.asking.Store(false)
		b.hearOfJobs(ctx, about, jobs)
	})
}

// hearOfJobs asks, and notes which jobs are over.
func (b *Backend) hearOfJobs(ctx context.Context, about []*member, jobs []string) {
	works, err := b.opts.Jobs(ctx, jobs)
	if err != nil {
		if ctx.Err() == nil {
			b.opts.Logger.Warn("slurm does not say whether the jobs of workers still run; will ask again", "jobs", jobs, "error", err)
		}
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range about {
		m.jobGone = m.jobGone || !works[m.card.Job]
	}
}
