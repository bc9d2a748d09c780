package workers

import (
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// member is a worker. The backend's mutex guards it.
type member struct {
	folder lease.Folder
	card   lease.Card
	has    map[task.Ref]*attempt
	heard  time.Time // when it called last, or when we began to listen
	called bool      // it has called since we are here
	hold   int       // how many attempts it wants to have
	asking uint64    // counts its calls of Lease: only the newest is answered with something
	giving int       // grants that are being written into its ledger
	left   bool      // it has said that it ended
	silent bool      // it is not heard, or is known to be gone

	serial uint64 // of its orders
	leave  bool   // it is to end

	secret  secret
	ledger  sync.Mutex   // held while its ledger is written; taken before the backend's
	remains Remains      // opened when it was not heard; of Watch's goroutine
	broken  time.Time    // since when those are not whole, though all is over; of Watch's goroutine
	asked   time.Time    // when Slurm was asked about its job; of Watch's goroutine
	jobGone bool         // Slurm has said that its job is over
	inbox   *lease.Inbox // calls through files; Calls of the goroutine that answers them
}

func (m *member) id() string { return m.folder.ID() }

// host is what it has for tasks.
func (m *member) host() scheduler.Host {
	return scheduler.Host{CPUMilli: m.card.CPUMilli, MemBytes: m.card.MemBytes, GPUs: m.card.GPUs}
}

// takes says whether it could take more attempts.
func (m *member) takes() bool { return m.called && !m.silent && !m.left && !m.leave && m.hold > 0 }

// fits says whether it could run the attempt to its end.
func (m *member) fits(t task.Task, now time.Time) bool {
	if !m.host().Holds(t.Spec.Resources) {
		return false
	}
	limit := t.Spec.EnforcedLimit()
	return m.card.Until.IsZero() || limit == 0 || now.Add(limit+m.card.Margin).Before(m.card.Until)
}

// order has it hear of new orders.
func (b *Backend) order(m *member) {
	m.serial++
	b.changed()
}

// orders are what it is to do.
func (m *member) orders() lease.Orders {
	o := lease.Orders{Serial: m.serial, Leave: m.leave}
	for ref, a := range m.has {
		if a.stop && a.claimed && !a.ended {
			o.Stop = append(o.Stop, ref)
		}
	}
	return o
}
