package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/workers"
	"github.com/dspy-agent/dspy-agent/slurm"
)

// autoWorkers submits jobs with workers while tasks wait for them, within limits, and
// takes those back that have nothing to come for. A worker with nothing to do ends by
// itself. Nothing of it is remembered: Slurm says which jobs there are, by their name.
type autoWorkers struct {
	conf    config.Config
	client  workerJobs
	log     *slog.Logger
	name    string
	program string
	waiting func() int
	leave   func() int // has those end that have nothing to do
	confirm func() error

	words autoWords

	since time.Time // the load has been there
	quiet time.Time // since when nothing waits
	asked time.Time // squeue was
	doubt time.Time // until when an answer of sbatch may still turn out to have been a yes
	swept time.Time // the outputs of jobs were
	known bool      // squeue has answered: jobs are those of a former daemon, too
	jobs  []string  // those that were there then, and those submitted since
}

// workerJobs is what is asked of Slurm.
type workerJobs interface {
	Named(ctx context.Context, name string) (pending, working []string, err error)
	SubmitWorker(ctx context.Context, j slurm.WorkerJob) (job string, err error)
	Cancel(ctx context.Context, jobs ...string) error
}

const (
	autoEvery = time.Second
	// autoAsk is between two calls of squeue, and autoDoubt how long after an answer that
	// was none no more is submitted, nor asked where nothing waits.
	autoAsk   = 5 * time.Second
	autoDoubt = 30 * time.Second
	// autoQuiet is how long nothing waits until there are too many workers.
	autoQuiet = 10 * time.Second
)

// newAutoWorkers returns nil where none is wanted.
func (a *App) newAutoWorkers(environ []string) *autoWorkers {
	if a.conf.Workers.Max == 0 {
		return nil
	}
	w := &autoWorkers{
		conf: a.conf, client: &slurm.Client{Env: slurm.Environment(environ)}, log: a.log.With("component", "workers"),
		name: "dspyworker-" + a.queue.ID(), waiting: a.waitForWorkers, leave: a.leaveIdle, confirm: a.queue.ConfirmLease,
		asked: time.Now(), // what waits is told only once the backends have their attempts again
	}
	if argv := besideUs("dspy-agent"); argv != nil {
		w.program = argv[0]
	} else if argv := inPath("dspy-agent"); argv != nil {
		w.program = argv[0]
	}
	return w
}

// waitForWorkers is how many tasks wait that a worker may take.
func (a *App) waitForWorkers() int {
	n := a.workers.Waiting()
	paused := a.queue.Paused()
	for class, waits := range a.queue.Waiting() {
		c, err := a.conf.Class(class)
		if err == nil && slices.Contains(c.Backends, workers.Name) && pauseOf(paused, c.Name) == nil {
			n += waits.Ready
		}
	}
	return n
}

func (a *App) leaveIdle() int { return a.workers.LeaveIdle() }

// run looks until ctx ends.
func (w *autoWorkers) run(ctx context.Context) error {
	t := time.NewTicker(autoEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			w.look(ctx)
		}
	}
}

// look calls Slurm only where something might follow.
func (w *autoWorkers) look(ctx context.Context) {
	now := time.Now()
	n := w.waiting()
	if n >= w.conf.Workers.Backlog {
		if w.since.IsZero() {
			w.since = now
		}
	} else {
		w.since = time.Time{}
	}
	w.rest(n, now)
	w.sweep(now)
	loaded := !w.since.IsZero() && now.Sub(w.since) >= workers.Stays
	w.words.load(loaded)
	if !loaded && (n > 0 || w.idle()) || now.Sub(w.asked) < w.every(loaded) || now.Before(w.doubt) || w.confirm() != nil {
		return
	}
	w.asked = now
	pending, working, err := w.client.Named(ctx, w.name)
	if err != nil {
		w.say(asking, fmt.Sprintf("no worker job is submitted: %s", err))
		return
	}
	w.say(asking, "")
	w.known, w.jobs = true, slices.Concat(pending, working)
	w.words.tell(len(pending), len(working))
	l := workers.Load{Waiting: n, Jobs: len(w.jobs), Pending: len(pending), Max: w.conf.Workers.Max, Backlog: w.conf.Workers.Backlog}
	switch more := l.More(); {
	case l.Fewer():
		w.cancel(ctx, pending)
	case more == 0:
		w.say(submitting, "") // it is not what they wait for any more
	case loaded:
		w.submit(ctx, more)
	}
}

// every is between two calls of squeue. Where nothing waits, one that does not answer is
// not called as often.
func (w *autoWorkers) every(loaded bool) time.Duration {
	if !loaded && !w.known {
		return autoDoubt
	}
	return autoAsk
}

// idle says that no job was there when it was looked last. Of those that a former daemon
// has submitted nobody knows before Slurm was asked.
func (w *autoWorkers) idle() bool { return w.known && len(w.jobs) == 0 }

// cancel takes jobs back for which nothing waits.
func (w *autoWorkers) cancel(ctx context.Context, pending []string) {
	if err := w.client.Cancel(ctx, pending...); err != nil {
		w.say(cancelling, fmt.Sprintf("worker jobs that nothing waits for could not be cancelled: %s", err))
		return
	}
	w.say(cancelling, "")
	w.log.Info("worker jobs that waited in slurm are not needed any more", "jobs", pending)
}

// say logs a trouble once, and keeps it for those who ask.
func (w *autoWorkers) say(about autoStep, text string) {
	if w.words.trouble(about, text) && text != "" {
		w.log.Warn("workers", "reason", text)
	}
}

// none is what is said to tasks that wait where there is no worker.
func (w *autoWorkers) none() string { return w.words.none(w.conf.Workers.Backlog) }

// rest has workers leave where nothing waits for a while.
func (w *autoWorkers) rest(waiting int, now time.Time) {
	switch {
	case waiting > 0:
		w.quiet = time.Time{}
	case w.quiet.IsZero():
		w.quiet = now
	case now.Sub(w.quiet) >= autoQuiet:
		w.quiet = now
		if n := w.leave(); n > 0 {
			w.log.Info("workers that have nothing to do are to end", "workers", n)
		}
	}
}

// submit submits jobs, one after the other, until one is not accepted.
func (w *autoWorkers) submit(ctx context.Context, n int) {
	for range n {
		if w.program == "" {
			w.say(submitting, "no worker job is submitted: there is no dspy-agent beside the orchestrator, nor on PATH")
			return
		}
		job, err := w.client.SubmitWorker(ctx, w.job())
		var refused *slurm.RefusedError
		switch {
		case err == nil:
			w.say(submitting, "")
			w.log.Info("submitted a worker job", "job", job)
			w.jobs = append(w.jobs, job)
			w.words.submitted(job)
		case errors.As(err, &refused):
			w.doubt = time.Now().Add(autoDoubt) // it would be refused again
			w.say(submitting, "Slurm refused a worker job: "+refused.Text)
			return
		default:
			w.known = false
			w.doubt = time.Now().Add(autoDoubt)
			w.say(submitting, fmt.Sprintf("sbatch gave no answer about a worker job; it is looked for: %s", err))
			return
		}
	}
}

// job is what a worker's job is like.
func (w *autoWorkers) job() slurm.WorkerJob {
	c, s := w.conf.Workers, w.conf.Slurm.SlurmJob
	dir := w.outputs()
	_ = os.MkdirAll(dir, 0o700) // else sbatch says so
	site := slurm.Site{Partition: s.Partition, Account: s.Account, QOS: s.QOS, Constraint: s.Constraint, Walltime: c.Walltime, Directives: s.Directives, Setup: s.Setup}
	if c.Partition != "" {
		site.Partition = c.Partition
	}
	argv := append([]string{w.program}, w.conf.Args()...)
	return slurm.WorkerJob{
		Name: w.name, OutputDir: dir, CPUs: c.CPUs, GPUs: c.GPUs, MemBytes: c.MemBytes, Site: site,
		Argv: append(argv, "worker", "--auto", "--idle", c.Idle.String()),
		Env:  []string{"ENV_QUEUE_DIR=" + w.conf.QueueDir},
	}
}
