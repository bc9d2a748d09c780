package gpupool

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// note is what is to be said of a task that runs.
type note struct {
	text string
	key  string // of the same trouble; its numbers may change
	// lost: a device that it holds is gone; nothing good comes of it any more.
	lost bool
}

// takeNotes looks what there is to be said of those who hold devices.
func (p *Pool) takeNotes(events []gpu.Event, now time.Time) {
	if p.seen == nil {
		return
	}
	for _, v := range gpu.Judge(p.book, p.seen, p.leases, now) {
		if len(v.Holders) == 0 {
			continue
		}
		gone := p.book.Health(v.ID).Gone()
		for i, t := range p.tasks {
			if !slices.Contains(p.leases[i].Devices, v.ID) {
				continue
			}
			p.takeNote(t, &v, gone)
			p.noteXID(t, v.ID, events)
		}
	}
}

func (p *Pool) takeNote(t task.Task, v *gpu.Verdict, gone bool) {
	switch {
	case gone:
		p.notes[t.Seq] = note{text: p.name(v.ID) + ": " + p.book.Health(v.ID).Reason, lost: true}
	case v.Contended():
		text := gpu.Occupants(v.Occupants)
		if u := p.usage[t.Ref()]; u != nil {
			u.Contended = text
		}
		p.note(t.Seq, pids(v.Occupants), fmt.Sprintf("contended: %s is also used by %s", p.name(v.ID), text))
	case v.Device != nil && t.Status().Lease.GPUMem > 0:
		p.takeShareNote(t, v)
	}
}

// takeShareNote looks whether a sharer has more of a device than it asked for: nothing
// keeps it from that. It is said of it, and of those whose memory that is.
func (p *Pool) takeShareNote(t task.Task, v *gpu.Verdict) {
	share := t.Status().Lease.GPUMem
	if used := p.memoryOf(v.Device, t.Spec.ID); used > share {
		p.note(t.Seq, "share", fmt.Sprintf("it uses %s of %s, and asked for %s", gpu.Size(used), p.name(v.ID), gpu.Size(share)))
		return
	}
	for i, other := range p.tasks {
		asked := other.Status().Lease.GPUMem
		if other.Seq == t.Seq || !slices.Contains(p.leases[i].Devices, v.ID) {
			continue
		}
		if used := p.memoryOf(v.Device, other.Spec.ID); used > asked+asked/overdrawn {
			text := fmt.Sprintf("task %s, which has %s of it and asked for %s", other.Spec.ID, gpu.Size(used), gpu.Size(asked))
			if u := p.usage[t.Ref()]; u != nil {
				u.Contended = text
			}
			p.note(t.Seq, "share of "+other.Spec.ID, fmt.Sprintf("contended: %s is also used by %s", p.name(v.ID), text))
		}
	}
}

// overdrawn is which part of its share a task may have beyond it before others are told
// that it has theirs: what CUDA itself needs, few ask for.
const overdrawn = 10

// note says something new; what was said already stands as it is, since each note is
// written down.
func (p *Pool) note(seq task.Seq, key, text string) {
	if n := p.notes[seq]; !n.lost && n.key != key {
		p.notes[seq] = note{text: text, key: key}
	}
}

func pids(list []gpu.Occupant) string {
	var b strings.Builder
	for _, o := range list {
		fmt.Fprint(&b, o.PID, " ")
	}
	return b.String()
}

func (p *Pool) noteXID(t task.Task, id gpu.DeviceID, events []gpu.Event) {
	for _, e := range events {
		if e.Kind == gpu.EventXID && e.Device == id && !p.notes[t.Seq].lost {
			text := fmt.Sprintf("%s reported %s", p.name(id), gpu.XIDText(e.XID))
			if gpu.XIDByProgram(e.XID) {
				text += "; that is usually the program's own fault"
			}
			p.notes[t.Seq] = note{text: text}
		}
	}
}

// Notes tells what is to be said of tasks that hold devices: text for people, and in
// lost, which of them hold one that is gone.
func (p *Pool) Notes() (texts map[task.Seq]string, lost map[task.Seq]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	texts, lost = map[task.Seq]string{}, map[task.Seq]string{}
	for seq, n := range p.notes {
		if n.lost {
			lost[seq] = n.text
			continue
		}
		texts[seq] = n.text
	}
	return texts, lost
}
