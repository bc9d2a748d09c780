package scheduler

import (
	"cmp"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Room is what a backend has for tasks whose room others bring.
type Room struct {
	Most  int    // how many tasks it may have at a time
	Hosts []Host // each once
}

// Host is what one place has, tasks that run there included.
type Host struct {
	CPUMilli int64
	MemBytes int64 // 0 = not counted
	GPUs     int   // whole ones, of whatever model
}

// Holds says whether a task could ever run there.
func (h Host) Holds(r task.Resources) bool {
	return r.CPU() <= h.CPUMilli && (h.MemBytes == 0 || r.MemBytes <= h.MemBytes) && r.GPUs <= h.GPUs && !choosy(r)
}

// choosy says that not any whole GPU will do.
func choosy(r task.Resources) bool { return r.GPUMem > 0 || r.GPUModel != "" || r.MIG != "" }

// Compare puts the larger first.
func (h Host) Compare(o Host) int {
	return cmp.Or(cmp.Compare(o.CPUMilli, h.CPUMilli), cmp.Compare(o.MemBytes, h.MemBytes), cmp.Compare(o.GPUs, h.GPUs))
}

// held says why none of a backend's hosts could run the task; "" = one could.
func (p *Planner) held(h Head, b Backend) string {
	if len(b.Hosts) == 0 {
		return ""
	}
	for _, host := range b.Hosts {
		if host.Holds(h.Resources) {
			return ""
		}
	}
	if choosy(h.Resources) {
		return p.say("the workers of backend %s have whole GPUs, without a choice of model or memory", b.Name)
	}
	return p.say("no worker of backend %s has as much as it needs; the largest has %s and %d GPUs", b.Name, cpus(b.Hosts[0].CPUMilli), b.Hosts[0].GPUs)
}

// roomElsewhere says that a backend that does not use this machine could have a task.
func (p *Planner) roomElsewhere() bool {
	for _, b := range p.Backends {
		if b.Down == "" && !b.Local && (b.Most == 0 || p.on[b.Name] < b.Most) {
			return true
		}
	}
	return false
}
