package engine

import (
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// mostPlaced bounds what one round places, and so its commit.
const mostPlaced = 256

// plan asks the scheduler what starts now. again means that there may be more
// to place than a round places. Its cost depends on what can start: nothing is
// looked at when nothing can, and no more of the line than it takes to know. What
// becomes ready after Least was asked wakes the loop once more.
func (e *Engine) plan(y tally) (changes []task.Change, again bool, err error) {
	s := e.snapshot(y)
	s.Least = e.store.Least()
	p := scheduler.NewPlanner(s)
	e.gpusSoon = false
	e.impatient = 0
	if p.Full() {
		return nil, false, nil
	}
	ids := map[task.Seq]string{} // of those that need GPUs
	err = e.store.Line(func(h scheduler.Head) scheduler.Verdict {
		verdict := p.Offer(h)
		if !h.Resources.GPURequest().None() {
			ids[h.Seq] = h.ID
		}
		if d := p.Decision(); len(d.Place)+len(d.Refuse) == mostPlaced {
			again, verdict = true, scheduler.Stop
		}
		return verdict
	})
	if err != nil {
		return nil, false, err
	}
	d := p.Decision()
	e.impatient = d.Next
	if e.gpusSoon = d.Soon; d.Look && e.gpus != nil {
		e.gpus.Look()
	}
	placed, lacking := e.claim(d, ids)
	again = again || lacking
	for _, p := range placed {
		changes = append(changes, task.Change{Seq: p.Seq, Event: task.Event{
			Kind: task.EventPlaced, At: s.Now, Attempt: p.Attempt, Backend: p.Backend, Lease: p.Lease,
		}})
	}
	for _, r := range p.Decision().Refuse {
		changes = append(changes, task.Change{Seq: r.Seq, Event: task.Event{
			Kind: task.EventRefused, At: s.Now, Attempt: r.Attempt, Class: r.Class, Text: r.Reason,
		}})
	}
	return changes, again, nil
}

// snapshot is all that planning needs but the heads.
func (e *Engine) snapshot(y tally) scheduler.Snapshot {
	s := scheduler.Snapshot{
		Now:      task.At(e.now()),
		Classes:  make(map[string]scheduler.Class, len(e.classes)),
		Backends: make(map[string]scheduler.Backend, len(e.backends)),
		Capacity: e.capacity,
		Used:     y.used,
		Running:  y.running,
		On:       y.on,
		Ahead:    y.ahead,
		Uneven:   y.uneven,
		GPUs:     e.see(y),
	}
	paused := e.store.Paused()
	for n, c := range e.classes {
		s.Classes[n] = scheduler.Class{
			Name: c.Name, Parallel: c.Parallel, Backends: c.Backends, Patience: c.Patience, Paused: pauseOf(paused, n, c.Of), Shut: c.Shut, AheadPerSlot: e.aheadPerSlot(c),
		}
	}
	for n, r := range e.backends {
		b := scheduler.Backend{Name: n, Down: r.Backend.Down(), Local: r.Local, Image: r.Image, NoImage: r.NoImage, Most: r.Most}
		if f, ok := r.Backend.(Fetcher); ok {
			b.Images = f.Images()
		}
		if l, ok := r.Backend.(Limited); ok {
			b.NoGPUs = l.NoGPUs()
		}
		if f, ok := r.Backend.(Roomy); ok {
			room := f.Room()
			b.Most, b.Hosts = room.Most, room.Hosts
			if room.Most == 0 && b.Down == "" {
				b.Down = "its room has just gone"
			}
		}
		s.Backends[n] = b
	}
	return s
}
