package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ReserveAfter is how long the first task in the line waits for room before
// smaller ones behind it may no longer take what becomes free. Without it a task
// that needs four CPUs would never start on a machine kept busy by tasks that
// need one.
const ReserveAfter = 2 * time.Minute

// Plan decides what starts now.
func Plan(s Snapshot) Decision {
	p := planner{
		Snapshot: s,
		free:     free(s),
		running:  cloneCounts(s.Running),
		ahead:    cloneCounts(s.Ahead),
		uneven:   s.Uneven,
		decision: Decision{Waits: make(map[string]Wait)},
	}
	heads := slices.Clone(s.Heads)
	slices.SortStableFunc(heads, func(a, b Head) int {
		if a.Order != b.Order {
			return cmpInstant(a.Order, b.Order)
		}
		return cmpInstant(task.Instant(a.Seq), task.Instant(b.Seq))
	})
	for _, h := range heads {
		p.consider(h)
	}
	return p.decision
}

// planner is the state of one Plan.
type planner struct {
	Snapshot
	free     Usage // what is left of the capacity
	running  map[string]int
	ahead    map[string]int
	reserved *Head // the first that waits for room, once it has waited long
	uneven   int   // local tasks that hold more or less than one CPU
	short    bool  // somebody earlier in the line waits for room
	decision Decision
}

// consider places the head, or notes why it waits. Once one of a shape waits,
// those behind it wait too: the order within a shape is the order of the line.
func (p *planner) consider(h Head) {
	if _, waits := p.decision.Waits[h.Shape]; waits {
		return
	}
	class, ok := p.Classes[h.Class]
	if !ok {
		p.decision.Refuse = append(p.decision.Refuse, Refusal{h.Seq, h.Attempt,
			fmt.Sprintf("its class %q is not configured any more; add it back and retry the task, or submit it under another class", h.Class)})
		return
	}
	if class.Paused != "" {
		p.wait(h, fmt.Sprintf("class %s is paused: %s", class.Name, class.Paused))
		return
	}
	b, why := p.backend(h, class)
	if why != "" {
		p.wait(h, why)
		return
	}
	lease, why := p.room(h, class, b)
	if why != "" {
		p.wait(h, why)
		return
	}
	p.place(h, b, lease)
}

func (p *planner) wait(h Head, reason string) {
	p.decision.Waits[h.Shape] = Wait{Seq: h.Seq, Reason: reason}
}

// backend chooses the first of the task's or the class's backends that can take
// the task now.
func (p *planner) backend(h Head, class Class) (Backend, string) {
	names := h.Backends
	if len(names) == 0 {
		names = class.Backends
	}
	var whys []string
	for _, n := range names {
		b, ok := p.Backends[n]
		switch {
		case !ok:
			whys = append(whys, fmt.Sprintf("backend %s is not available on this host", n))
		case h.Image != "" && !b.Image:
			whys = append(whys, fmt.Sprintf("backend %s does not run container images", n))
		case h.Image == "" && !b.NoImage:
			whys = append(whys, fmt.Sprintf("backend %s needs a container image", n))
		case b.Down != "":
			whys = append(whys, fmt.Sprintf("backend %s is down: %s", n, b.Down))
		default:
			return b, ""
		}
	}
	if len(whys) == 0 {
		return Backend{}, fmt.Sprintf("class %s has no backend", class.Name)
	}
	return Backend{}, strings.Join(whys, "; ")
}

// room says what the task would hold, or why there is no room for it.
func (p *planner) room(h Head, class Class, b Backend) (task.Lease, string) {
	need := task.Lease{CPUMilli: h.Resources.CPU(), MemBytes: h.Resources.MemBytes}
	if class.Parallel > 0 && p.running[class.Name] >= class.Parallel {
		return need, fmt.Sprintf("class %s is at its limit of %d at a time", class.Name, class.Parallel)
	}
	if !b.Local {
		return need, ""
	}
	if need.CPUMilli > p.Capacity.CPUMilli {
		return need, fmt.Sprintf("it needs %s; this machine has %s for tasks", cpus(need.CPUMilli), cpus(p.Capacity.CPUMilli))
	}
	if p.Capacity.MemBytes > 0 && need.MemBytes > p.Capacity.MemBytes {
		return need, fmt.Sprintf("it needs %d MiB of memory; this machine has %d MiB for tasks", need.MemBytes>>20, p.Capacity.MemBytes>>20)
	}
	if p.reserved != nil {
		return need, fmt.Sprintf("what becomes free is kept for task %s, which is first in the line and needs %s", p.reserved.ID, cpus(p.reserved.Resources.CPU()))
	}
	if p.fits(need) {
		return need, ""
	}
	if p.mayGoAhead(h, class, need) {
		need.Ahead = true
		return need, ""
	}
	p.short = true
	if p.Now.Sub(h.Since) >= ReserveAfter {
		p.reserved = &h
	}
	return need, p.fullText(need)
}

func (p *planner) fits(need task.Lease) bool {
	return need.CPUMilli <= p.free.CPUMilli && (p.Capacity.MemBytes == 0 || need.MemBytes <= p.free.MemBytes)
}

// mayGoAhead says whether the task may be handed over before there is a slot for
// it. Only plain tasks of one CPU may, since they can take over the slot of any
// other; and not while an earlier one waits for room, or it would wait for those
// ahead, too; and not beside tasks that hold more or less than one CPU, since
// whoever starts what is ahead counts slots and not CPUs.
func (p *planner) mayGoAhead(h Head, class Class, need task.Lease) bool {
	plain := need.CPUMilli == 1000 && need.MemBytes == 0 && h.Resources.GPUs == 0 && h.Resources.GPUMem == 0
	return plain && !p.short && p.uneven == 0 && class.Parallel == 0 &&
		p.ahead[class.Name] < class.AheadPerSlot*int(p.Capacity.CPUMilli/1000)
}

func (p *planner) fullText(need task.Lease) string {
	used := p.Capacity.CPUMilli - p.free.CPUMilli
	if need.CPUMilli > p.free.CPUMilli {
		return fmt.Sprintf("it needs %s and waits for room: %s of %s are in use", cpus(need.CPUMilli), bare(used), cpus(p.Capacity.CPUMilli))
	}
	return fmt.Sprintf("it needs %d MiB of memory and waits for room: %d of %d MiB are in use",
		need.MemBytes>>20, (p.Capacity.MemBytes-p.free.MemBytes)>>20, p.Capacity.MemBytes>>20)
}

func (p *planner) place(h Head, b Backend, lease task.Lease) {
	p.decision.Place = append(p.decision.Place, Placement{Seq: h.Seq, Attempt: h.Attempt, Backend: b.Name, Lease: lease})
	if lease.Ahead {
		p.ahead[h.Class]++
		return
	}
	p.running[h.Class]++
	if b.Local {
		if lease.CPUMilli != 1000 {
			p.uneven++
		}
		p.free.CPUMilli -= lease.CPUMilli
		p.free.MemBytes -= lease.MemBytes
	}
}

// free is what nobody holds. Tasks that were placed ahead take the next slots
// that become free before the engine hears of it, so those are taken already.
func free(s Snapshot) Usage {
	ahead := int64(0)
	for _, n := range s.Ahead {
		ahead += int64(n) * 1000
	}
	return Usage{
		CPUMilli: max(0, s.Capacity.CPUMilli-s.Used.CPUMilli-ahead),
		MemBytes: max(0, s.Capacity.MemBytes-s.Used.MemBytes),
	}
}

func cloneCounts(m map[string]int) map[string]int {
	out := make(map[string]int, len(m))
	maps.Copy(out, m)
	return out
}

func cmpInstant(a, b task.Instant) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// cpus writes thousandths of CPUs as people say them.
func cpus(milli int64) string {
	if milli == 1000 {
		return "1 CPU"
	}
	return bare(milli) + " CPUs"
}

func bare(milli int64) string {
	if milli%1000 == 0 {
		return fmt.Sprint(milli / 1000)
	}
	return fmt.Sprintf("%.1f", float64(milli)/1000)
}
