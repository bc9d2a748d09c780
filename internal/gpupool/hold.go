package gpupool

import (
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Hold is told which tasks hold devices, all of them, after every commit that was
// about that. It does not wait.
func (p *Pool) Hold(tasks []task.Task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tasks = tasks
	p.leases = make([]gpu.Lease, len(tasks))
	known := make(map[task.Ref]bool, len(tasks))
	for i, t := range tasks {
		p.leases[i] = t.Status().Lease.GPULease(t.Spec.ID)
		known[t.Ref()] = true
		if p.usage[t.Ref()] == nil {
			p.usage[t.Ref()] = &usage{}
		}
	}
	for ref := range p.usage {
		if !known[ref] {
			delete(p.usage, ref)
		}
	}
	for seq := range p.notes {
		if !holds(tasks, seq) {
			delete(p.notes, seq)
		}
	}
	if p.o.Off != "" {
		return
	}
	p.book = p.book.After(gpu.Observation{Now: p.o.Now(), Boot: p.o.Boot, Leases: p.leases, Attribution: p.attribution()})
	p.noteContainers()
	p.settle()
	p.release()
	p.stir()
}

func holds(tasks []task.Task, seq task.Seq) bool {
	for _, t := range tasks {
		if t.Seq == seq {
			return true
		}
	}
	return false
}

// fresh is how old a look may be that is placed by: whoever came to a device since
// would be met on it.
const fresh = time.Second

// firstLook is how long the first look may take before nobody waits for it.
const firstLook = 10 * time.Second

// See tells how the devices are when these leases hold: a function, since as a rule
// no task needs one. It always gives the same.
func (p *Pool) See(leases []gpu.Lease, ends map[string]task.Instant, now time.Time) func() scheduler.GPUs {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := scheduler.GPUs{Sharers: p.o.Sharers, Ends: ends, Asker: gpu.Asker{UID: p.o.UID, Zone: time.Local}}
	if g.Down = p.o.Off; g.Down != "" {
		return func() scheduler.GPUs { return g }
	}
	s, book, others := p.seen, p.book, p.others
	g.Soon = s == nil && time.Since(p.began) < firstLook || p.cooling()
	if g.Down = p.o.Eyes.Down(); s == nil || g.Down != "" {
		if g.Down == "" {
			g.Down = "the GPUs have not been seen yet"
		}
		return func() scheduler.GPUs { return g }
	}
	g.Old = time.Since(p.received) > fresh
	g.Links, g.ByUUID = s.Links, p.o.ByUUID || !s.Numbered()
	return func() scheduler.GPUs {
		g := g
		g.Verdicts = withOthers(gpu.Judge(book, s, leases, now), others)
		return g
	}
}

// Look has the devices looked at once more; Changed tells when that was done.
func (p *Pool) Look() {
	p.mu.Lock()
	again := time.Since(p.asked) > fresh/4
	if again {
		p.asked = time.Now()
	}
	p.mu.Unlock()
	if again && p.o.Off == "" {
		p.o.Eyes.Ask()
	}
}
