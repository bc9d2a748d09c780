package gpupool

import (
	"fmt"
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// usage is what an attempt has used so far, as far as looks at the devices tell.
type usage struct {
	Busy    time.Duration
	Unknown bool // the driver does not tell who of those on a device computes
	Peak    int64
	// Contended is who else was seen on its devices.
	Contended string
	last      time.Time
}

type usageInMemory struct {
	Ref       task.Ref      `json:"ref"`
	Busy      time.Duration `json:"busy"`
	Unknown   bool          `json:"unknown,omitempty"`
	Peak      int64         `json:"peak,omitempty"`
	Contended string        `json:"contended,omitempty"`
}

func (p *Pool) usageNow() []usageInMemory {
	out := make([]usageInMemory, 0, len(p.usage))
	for ref, u := range p.usage {
		out = append(out, usageInMemory{ref, u.Busy, u.Unknown, u.Peak, u.Contended})
	}
	slices.SortFunc(out, func(a, b usageInMemory) int { return int(int64(a.Ref.Seq) - int64(b.Ref.Seq)) })
	return out
}

// longest is for how long one sample speaks.
const longest = 30 * time.Second

// sample adds a look to what tasks have used, with the lock held.
func (p *Pool) sample(s *gpu.Snapshot, now time.Time) {
	for i, t := range p.tasks {
		u := p.usage[t.Ref()]
		if t.Status().StartedAt == 0 {
			continue
		}
		gap := min(now.Sub(u.last), now.Sub(t.Status().StartedAt.Time()), longest)
		u.last = now
		var memory int64
		for _, id := range p.leases[i].Devices {
			d := s.Device(id)
			if d == nil {
				continue
			}
			memory += p.memoryOf(d, t.Spec.ID)
			if d.Sample.GPUPercent == nil || !p.leases[i].Whole() {
				u.Unknown = true
				continue
			}
			u.Busy += max(gap, 0) * time.Duration(*d.Sample.GPUPercent) / 100
		}
		u.Peak = max(u.Peak, memory)
	}
}

// memoryOf is what a task's processes have of a device.
func (p *Pool) memoryOf(d *gpu.Device, id string) (sum int64) {
	owners := p.attribution()
	for _, proc := range d.Sample.Processes {
		o := owners.Owner(proc)
		if o.Kind == gpu.OwnerTask && o.Name == id && proc.UsedBytes != nil {
			sum += *proc.UsedBytes
		}
	}
	return sum
}

// Use is what an attempt has had of its devices up to a moment.
func (p *Pool) Use(t task.Task, until time.Time) task.GPUUse {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := t.Status().Lease
	out := task.GPUUse{Busy: -1}
	for _, id := range l.GPUs {
		held := max(until.Sub(t.Status().AssignedAt.Time()), 0)
		if d := p.device(id); d != nil && l.GPUMem > 0 && l.GPUMem < d.TotalBytes {
			held = time.Duration(float64(held) * float64(l.GPUMem) / float64(d.TotalBytes))
		}
		out.Held += held
	}
	if u := p.usage[t.Ref()]; u != nil {
		if out.Peak = u.Peak; !u.Unknown {
			out.Busy = min(u.Busy, out.Held)
		}
	}
	return out
}

func (p *Pool) device(id string) *gpu.Device {
	if p.seen == nil {
		return nil
	}
	return p.seen.Device(gpu.DeviceID(id))
}

// SeenSince says whether the devices were looked at after a moment, or cannot be.
func (p *Pool) SeenSince(at time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.o.Off != "" || p.seen != nil && p.seen.At.After(at) || p.o.Eyes.Down() != ""
}

// Blame says what was wrong with the devices of an attempt, for who looks for the
// reason why it failed: lost, that one of them failed under it; contended, that
// somebody else used one.
func (p *Pool) Blame(t task.Task) (lost, contended string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.usage[t.Ref()]; u != nil {
		contended = u.Contended
	}
	if n := p.notes[t.Seq]; n.lost {
		return n.text, contended
	}
	began := t.Status().AssignedAt.Time()
	for _, id := range t.Status().Lease.GPUs {
		h := p.book.Health(gpu.DeviceID(id))
		if h.Failed() && !h.Since.Before(began) {
			return p.name(gpu.DeviceID(id)) + ": " + h.Reason, contended
		}
	}
	return "", contended
}

// name is a device for people: by its index where it is seen.
func (p *Pool) name(id gpu.DeviceID) string {
	if d := p.device(string(id)); d != nil && d.Kind == gpu.Whole {
		return fmt.Sprintf("GPU %d", d.Index)
	}
	return string(id)
}
