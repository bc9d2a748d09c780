package process

import (
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// mostAncestors bounds how far up the parents of a process are followed.
const mostAncestors = 64

// Whose says which of the tasks a process of this machine belongs to: one of its
// session, of its cgroup, with its marker, or a descendant of such a one.
func (b *Backend) Whose(pid int, among []task.Task) (task.Seq, bool) {
	for range mostAncestors {
		p, ok := lookup(pid)
		if !ok || pid <= 1 {
			return 0, false
		}
		if seq, ok := b.directly(p, among); ok {
			return seq, true
		}
		pid = p.parent
	}
	return 0, false
}

// directly leaves parents out.
func (b *Backend) directly(p process, among []task.Task) (task.Seq, bool) {
	mark, _ := markerOf(p.pid) // not ours to read: then it is none of ours
	i := slices.IndexFunc(among, func(t task.Task) bool {
		if mark != "" {
			return mark == marker(b.opts.QueueID, t.Ref())
		}
		h, ok := decodeHandle(t.Status().Handle)
		return ok && h.PID > 1 && (p.session == int(h.PID) || p.pid == int(h.PID)) && p.start >= h.Start
	})
	if i >= 0 {
		return among[i].Seq, true
	}
	return 0, false
}

// Process returns the main process of a task that runs here; PID is 0 if that is not
// known.
func (b *Backend) Process(t task.Task) host.Process {
	h, ok := decodeHandle(t.Status().Handle)
	if !ok || h.PID <= 1 {
		return host.Process{}
	}
	st, err := host.ReadStat(int(h.PID))
	if err != nil || st.Start < h.Start || st.Start > h.Until {
		return host.Process{}
	}
	return host.Process{PID: st.PID, Start: st.Start, Boot: h.Boot}
}

// Supervisor returns the process that starts tasks; PID is 0 if there is none now.
func (b *Backend) Supervisor() host.Process {
	b.mu.Lock()
	ss := b.session
	b.mu.Unlock()
	if ss == nil {
		return host.Process{}
	}
	st, err := host.ReadStat(ss.pid)
	if err != nil {
		return host.Process{}
	}
	return host.Process{PID: ss.pid, Start: st.Start, Boot: ss.where.Boot}
}
