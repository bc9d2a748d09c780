package workers

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// lookAround looks after workers that are not heard.
func (b *Backend) lookAround(ctx context.Context, calls *sync.WaitGroup) {
	b.mu.Lock()
	b.meetAll()
	var quiet []*member
	for _, m := range b.members {
		b.keepSecret(m)
		if b.missing(m) {
			quiet = append(quiet, m)
		} else {
			m.remains = nil // should it fall silent again, its supervisor is listened to from then on
		}
	}
	b.measure()
	b.giveUpStranded()
	b.mu.Unlock()
	b.askJobs(ctx, calls, quiet)
	for _, m := range quiet {
		b.lookAfter(m)
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
// of an earlier boot of it. Hosts that were made from one image share the machine's id, and
// have names of their own.
func (b *Backend) dead(m *member) bool {
	w := m.card.Where
	if w.Boot == b.here.Boot {
		return w.PIDs == b.here.PIDs && !m.card.Process.Runs()
	}
	return w.Machine != "" && w.Machine == b.here.Machine && w.Name == b.here.Name
}

// lookAfter takes back what a worker has not begun, and takes in what its supervisor has
// written of the rest.
func (b *Backend) lookAfter(m *member) {
	begun, unclaimed := b.hasOf(m)
	b.settle(m, append(begun, b.reclaim(m, unclaimed)...))
}

// reclaim takes back what the worker has not claimed, and returns what it has.
func (b *Backend) reclaim(m *member, unclaimed map[*attempt]uint64) (claimed []*attempt) {
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
			if a.holder == m && a.lease == number { // else it came back meanwhile
				a.claimed = true
				claimed = append(claimed, a)
			}
			b.mu.Unlock()
		}
	}
	b.takeBack(m, back)
	return claimed
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
func (b *Backend) settle(m *member, begun []*attempt) {
	if m.remains == nil {
		r, err := b.opts.Remains(m.folder.Spool())
		if err != nil {
			b.opts.Logger.Warn("cannot read what a worker has left; will try again", "worker", m.id(), "error", err)
			return
		}
		m.remains = r
	}
	r := m.remains
	over := !r.Lives() && b.gone(m) // before the look: what is written before its end is seen by it
	if err := r.Look(); err != nil {
		b.opts.Logger.Warn("cannot read all that a worker has left, so what has no end there has to wait; will try again", "worker", m.id(), "error", err)
		over = false
	}
	over = over && !r.Lives() // nor does one that was only found by it
	if m.broken = cmp.Or(m.broken, b.opts.Now()); !over || r.Whole() {
		m.broken = time.Time{}
	}
	back := map[uint64][]task.Ref{}
	b.mu.Lock()
	for _, a := range begun {
		if a.holder == m && b.settleOne(a, over) { // else it was given back meanwhile
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

// brokenFor is how long what a supervisor has written is not whole until it counts as
// damaged: a file server may have had it in parts.
const brokenFor = time.Minute

// settleOne takes in what is known of an attempt, and says whether it is free. The mutex is
// held.
func (b *Backend) settleOne(a *attempt, over bool) (free bool) {
	m := a.holder
	changes, started, err := m.remains.Of(a.ref)
	b.tell(a, changes...)
	switch {
	case a.ended || !over || err != nil:
	case a.stop:
		b.end(a, task.EventStopped, task.NoFailure, "")
	case started || a.begun():
		b.end(a, task.EventVanished, task.Vanished, m.goneText()+", and how it ended was not seen")
	case m.broken.IsZero():
		return true
	case b.opts.Now().Sub(m.broken) >= brokenFor:
		b.end(a, task.EventVanished, task.Vanished, m.goneText()+", and what its supervisor wrote down is damaged or was removed, so that nobody knows whether it began")
	}
	return false
}

// goneText is what an attempt is told whose worker is gone.
func (m *member) goneText() string {
	return fmt.Sprintf("the worker that ran it on %s is gone%s", m.card.Where.Name, jobWords(m.card.Job))
}

func jobWords(job string) string {
	if job == "" {
		return ""
	}
	return " with its Slurm job " + job
}

// gone says that nothing of the worker can work any more, its supervisor apart.
func (b *Backend) gone(m *member) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return m.left || m.jobGone || b.dead(m)
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
