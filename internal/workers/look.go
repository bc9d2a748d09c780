package workers

import (
	"context"
	"fmt"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// askJobsEvery is how often at most Slurm is asked about the job of a worker that is not
// heard.
const askJobsEvery = 10 * time.Second

// lookAround looks after workers that are not heard.
func (b *Backend) lookAround(ctx context.Context) {
	b.mu.Lock()
	b.meetAll()
	var quiet []*member
	for _, m := range b.members {
		b.keepSecret(m)
		if b.missing(m) {
			quiet = append(quiet, m)
		}
	}
	b.measure()
	b.giveUpStranded()
	b.mu.Unlock()
	for _, m := range quiet {
		b.lookAfter(ctx, m)
	}
}

// missing says whether a worker is not heard. The mutex is held.
func (b *Backend) missing(m *member) bool {
	was := m.silent
	// A folder that somebody removed is their word that the worker is gone.
	m.left = m.left || m.folder.HasLeft() || !m.folder.There()
	m.silent = m.left || b.dead(m) || b.opts.Now().Sub(m.heard) > b.opts.Unheard
	if m.silent && !was && !m.left {
		b.opts.Logger.Warn("a worker is not heard; what it has not begun is given to others", "worker", m.id(), "host", m.card.Where.Name, "job", m.card.Job, "tasks", len(m.has))
	}
	return m.silent
}

// dead says that the worker's process is known to have ended: it was one of this host, or
// of an earlier boot of it.
func (b *Backend) dead(m *member) bool {
	w := m.card.Where
	if w.Boot == b.here.Boot {
		return w.PIDs == b.here.PIDs && !m.card.Process.Runs()
	}
	return w.Machine != "" && w.Machine == b.here.Machine
}

// lookAfter takes back what a worker has not begun, and takes in what its supervisor has
// written of the rest.
func (b *Backend) lookAfter(ctx context.Context, m *member) {
	begun, unclaimed := b.hasOf(m)
	back := map[uint64][]task.Ref{}
	for a, number := range unclaimed {
		void, err := m.folder.Void(a.ref, number)
		switch {
		case err != nil:
			b.opts.Logger.Warn("cannot take a task back from its worker; will try again", "worker", m.id(), "task", a.ref.Seq, "error", err)
		case void:
			back[number] = append(back[number], a.ref)
		default:
			b.mu.Lock()
			a.claimed = true
			b.mu.Unlock()
			begun = append(begun, a)
		}
	}
	b.takeBack(m, back)
	b.settle(ctx, m, begun)
}

// hasOf returns what a worker has begun, and what it has not as far as is known, with the
// number of its lease.
func (b *Backend) hasOf(m *member) (begun []*attempt, unclaimed map[*attempt]uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	unclaimed = map[*attempt]uint64{}
	for _, a := range m.has {
		switch {
		case a.ended || a.giving:
		case a.claimed:
			begun = append(begun, a)
		default:
			unclaimed[a] = a.lease
		}
	}
	return begun, unclaimed
}

// settle takes in what the supervisor of a worker has written, and ends what has no end
// there once none can come.
func (b *Backend) settle(ctx context.Context, m *member, begun []*attempt) {
	if m.remains == nil {
		r, err := b.opts.Remains(m.folder.Spool())
		if err != nil {
			b.opts.Logger.Warn("cannot read what a worker has left", "worker", m.id(), "error", err)
			return
		}
		m.remains = r
	}
	over := !m.remains.Lives() && b.gone(ctx, m) // before the look: what is written before its end is seen by it
	m.remains.Look()
	back := map[uint64][]task.Ref{}
	b.mu.Lock()
	for _, a := range begun {
		changes, started := m.remains.Of(a.ref)
		b.tell(a, changes...)
		switch {
		case a.ended || !over:
		case a.stop:
			b.end(a, task.EventStopped, task.NoFailure, "")
		case started || len(a.history) > 0:
			b.end(a, task.EventVanished, task.Vanished, fmt.Sprintf("the worker that ran it on %s is gone%s, and how it ended was not seen", m.card.Where.Name, jobWords(m.card.Job)))
		default:
			back[a.lease] = append(back[a.lease], a.ref)
		}
	}
	empty := len(m.has) == 0
	b.mu.Unlock()
	b.takeBack(m, back)
	if over && empty {
		b.dismiss(m)
	}
}

func jobWords(job string) string {
	if job == "" {
		return ""
	}
	return " with its Slurm job " + job
}

// gone says that nothing of the worker can work any more, its supervisor apart.
func (b *Backend) gone(ctx context.Context, m *member) bool {
	switch {
	case m.left, b.dead(m), m.jobGone:
		return true
	case m.card.Job == "" || b.opts.Jobs == nil || b.opts.Now().Sub(m.asked) < askJobsEvery:
		return false
	}
	m.asked = b.opts.Now()
	works, err := b.opts.Jobs(ctx, []string{m.card.Job})
	if err != nil {
		b.opts.Logger.Warn("slurm does not say whether the job of a worker still runs", "worker", m.id(), "job", m.card.Job, "error", err)
		return false
	}
	m.jobGone = !works[m.card.Job]
	return m.jobGone
}

// dismiss removes the folder of a worker that is gone and has nothing.
func (b *Backend) dismiss(m *member) {
	if err := m.folder.Remove(); err != nil {
		b.opts.Logger.Warn("cannot remove the folder of a worker; will try again", "worker", m.id(), "error", err)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.members, m.id())
	b.measure()
	b.opts.Logger.Info("a worker has gone", "worker", m.id(), "host", m.card.Where.Name, "job", m.card.Job)
}

// giveUpStranded gives the engine back what no worker could take for a while. The mutex
// is held.
func (b *Backend) giveUpStranded() {
	now := b.opts.Now()
	for _, a := range b.line {
		if !a.whole || a.ended || a.stop || now.Sub(a.since) < b.opts.Stranded {
			continue
		}
		if able := b.anyFits(a, now); able {
			continue
		}
		b.end(a, task.EventNotStarted, task.CouldNotStart, "the workers that could have taken it are gone; it waits for its turn again")
	}
	b.line = dropEnded(b.line)
}

func (b *Backend) anyFits(a *attempt, now time.Time) bool {
	for _, m := range b.members {
		if m.takes() && m.fits(a.task, now) {
			return true
		}
	}
	return false
}

func dropEnded(line []*attempt) []*attempt {
	out := line[:0]
	for _, a := range line {
		if !a.ended {
			out = append(out, a)
		}
	}
	clear(line[len(out):])
	return out
}
