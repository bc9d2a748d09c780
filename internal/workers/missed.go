package workers

import (
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// missedFor is how long a worker says that it does not have something until that is taken
// back. It may have begun it just now, and not have said so.
const missedFor = 20 * time.Second

// compare takes back what a worker that lives does not have, though it was granted to it:
// none of the two would ever do anything about it. Its claim tells whether it has begun
// after all.
func (b *Backend) compare(h lease.Hold) error {
	b.mu.Lock()
	m, err := b.caller(h.Worker)
	if err != nil {
		b.mu.Unlock()
		return err
	}
	gone := m.missed(h, b.opts.Now())
	b.mu.Unlock()
	if len(gone) > 0 {
		begun := b.reclaim(m, gone)
		b.opts.Logger.Warn("a worker does not have tasks that it was given; those that it has not begun are given to others", "worker", m.id(), "tasks", len(gone), "begun", len(begun))
	}
	return nil
}

// missed returns what has been missed for long, with the number of its lease. The backend's
// mutex is held.
func (m *member) missed(h lease.Hold, now time.Time) map[*attempt]uint64 {
	has := make(map[task.Ref]bool, len(h.Waiting))
	for _, ref := range h.Waiting {
		has[ref] = true
	}
	var gone map[*attempt]uint64
	for ref, a := range m.has {
		switch {
		case has[ref], a.claimed, a.giving, a.ended, a.lease > h.Leased:
			a.missed = time.Time{}
		case a.missed.IsZero():
			a.missed = now
		case now.Sub(a.missed) >= missedFor:
			if gone == nil {
				gone = map[*attempt]uint64{}
			}
			gone[a] = a.lease
		}
	}
	return gone
}
