package process

import (
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// A journal can be lost together with its supervisor, by whoever tidies up in
// the wrong place. The handles of attempts are in the queue as well, so the next
// supervisor is told what they say: it follows what still runs, or ends it, and
// nothing is started a second time.

// known is an attempt that has a process, as far as the daemon knows.
type known struct {
	handle handle
	claim  *supervisorpb.Claim
	at     task.Instant // when it began
}

// claimOf is what the supervisor has to know about an attempt that it follows.
func (b *Backend) claimOf(t task.Task) *supervisorpb.Claim {
	c := &supervisorpb.Claim{
		LogPath: []byte(b.layout.LogPath(t.Ref())), TimeoutNs: int64(t.Spec.Timeout), GraceNs: int64(t.Spec.Grace),
	}
	if b.opts.Pool != nil {
		c.Pool, _ = b.opts.Pool(t)
	}
	return c
}

// knowTask notes what the queue has on record. The backend's mutex is held.
func (b *Backend) knowTask(t task.Task) {
	h, ok := decodeHandle(t.Status().Handle)
	if !ok || h.PID == 0 || t.State() < task.Starting {
		return
	}
	b.procs[t.Ref()] = known{handle: h, claim: b.claimOf(t), at: t.Status().StartedAt}
}

// knowReport notes the process that a supervisor has told of. The backend's
// mutex is held.
func (b *Backend) knowReport(o *origin, r *supervisorpb.Report) {
	ref := refOf(r.GetName())
	if r.GetPid() == 0 {
		return
	}
	k := b.procs[ref]
	k.handle, k.at = o.handleOf(r), task.Instant(r.GetStartedAt())
	if st := b.given[ref]; st != nil {
		k.claim = &supervisorpb.Claim{LogPath: st.GetLogPath(), TimeoutNs: st.GetTimeoutNs(), GraceNs: st.GetGraceNs(), Pool: st.GetPool()}
	}
	b.procs[ref] = k
}

// message is the attempt for a supervisor.
func (k known) message(ref task.Ref) *supervisorpb.Known {
	h := k.handle
	return &supervisorpb.Known{
		Name: nameOf(ref), Claim: k.claim, BootId: h.Boot, Pids: h.PIDs,
		Started: &supervisorpb.Started{
			Pid: h.PID, TicksFrom: h.Start, TicksTo: h.Until, At: int64(k.at), Cgroup: []byte(h.Cgroup),
			BootNs: int64(h.Start) * int64(time.Second/ticksPerSecond),
		},
	}
}

// knownOf returns what is known of some attempts. The backend's mutex is held.
func (b *Backend) knownOf(refs []task.Ref) []*supervisorpb.Known {
	var out []*supervisorpb.Known
	for _, ref := range refs {
		if k, ok := b.procs[ref]; ok && k.handle.Boot == b.id.Boot {
			out = append(out, k.message(ref))
		}
	}
	return out
}

// lives says whether the process that was started is still there.
func (k known) lives(id host.Identity) bool {
	if k.handle.PID == 0 || k.handle.where(id) != here {
		return false
	}
	p, ok := lookup(int(k.handle.PID))
	return ok && !p.zombie() && p.start >= k.handle.Start && p.start <= k.handle.Until
}
