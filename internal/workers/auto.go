package workers

import (
	"time"
)

// Load is what decides how many workers there are to be.
type Load struct {
	Waiting int // tasks that a worker could take, and that none has
	Jobs    int // of workers, that wait in Slurm or run
	Pending int // of these, those that wait in Slurm
	Max     int // how many there may be; 0 = none is submitted
	Backlog int // how many tasks have to wait for one more
}

// More is how many jobs are to be submitted now. One follows for each Backlog of tasks
// that wait, so that a few tasks bring no more than one.
func (l Load) More() int {
	if l.Backlog <= 0 || l.Waiting < l.Backlog {
		return 0
	}
	return max(0, min(l.Waiting/l.Backlog, l.Max)-l.Jobs)
}

// Fewer says that jobs which wait in Slurm have nothing to come for.
func (l Load) Fewer() bool { return l.Waiting == 0 && l.Pending > 0 }

// Waiting is how many attempts wait here for a worker.
func (b *Backend) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, a := range b.line {
		if !a.ended && !a.stop {
			n++
		}
	}
	return n
}

// LeaveIdle has workers end that the orchestrator has submitted and that have nothing to
// do, all but one, and says how many. That one ends by itself.
func (b *Backend) LeaveIdle() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	idle, n := []*member{}, 0
	for _, m := range b.members {
		if m.card.Auto && m.takes() && len(m.has) == 0 {
			idle = append(idle, m)
		}
	}
	for _, m := range idle[min(1, len(idle)):] {
		m.leave = true
		b.order(m)
		n++
	}
	b.measure()
	return n
}

// Stays says since when a load has to be seen until something follows from it: a burst
// that is over in a moment needs no job.
const Stays = 3 * time.Second
