package process

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// openQueue returns the queue of a hello. The first time, its journal says what
// an earlier supervisor had begun: each attempt in it is followed, or its end
// is known, or it is lost. None is begun again.
func (s *supervisor) openQueue(h *supervisorpb.Hello) (*queue, error) {
	if q := s.queues[h.GetQueueId()]; q != nil {
		if got := string(h.GetSpoolDir()); got != q.journal.dir {
			return nil, fmt.Errorf("the queue's spool is %s here, not %s: one queue cannot have two", q.journal.dir, got)
		}
		return q, nil
	}
	j, recs, err := openJournal(string(h.GetSpoolDir()), s.boot)
	if errors.Is(err, errJournalHeld) {
		return nil, fmt.Errorf("%w: was one started with another XDG_RUNTIME_DIR? Use the same for all, or end that one", err)
	}
	if err != nil {
		return nil, err
	}
	if err := j.announce(filepath.Join(s.opts.RuntimeDir, socketName)); err != nil {
		s.log.Warn("cannot say in the spool where this supervisor is", "queue", h.GetQueueId(), "error", err)
	}
	q := &queue{id: h.GetQueueId(), journal: j, attempts: map[task.Ref]*attempt{}}
	s.queues[q.id] = q
	for _, r := range recs {
		s.replay(q, r)
	}
	var begun map[int]string // read once, when needed
	for _, a := range q.attempts {
		if a.phase == claimed && begun == nil {
			begun = s.marksNow()
		}
		s.resume(a, begun)
	}
	s.keeper.wake()
	return q, nil
}

// replay takes in one record.
func (s *supervisor) replay(q *queue, r *supervisorpb.JournalRecord) {
	ref := refOf(r.GetName())
	a := q.attempts[ref]
	if a == nil {
		if _, ok := r.GetKind().(*supervisorpb.JournalRecord_Forgot); ok {
			q.forgotten.add(ref)
			return
		}
		a = newAttempt(q, r.GetName(), &supervisorpb.Claim{})
		a.phase = claimed
		q.attempts[ref] = a
	}
	switch k := r.GetKind().(type) {
	case *supervisorpb.JournalRecord_Claim:
		a.claim = k.Claim
	case *supervisorpb.JournalRecord_Started:
		st := k.Started
		a.phase = running
		a.proc = proc{
			log: -1, pidfd: -1, pid: int(st.GetPid()), from: st.GetTicksFrom(), to: st.GetTicksTo(),
			began: bootTime(st.GetBootNs()), at: task.Instant(st.GetAt()),
			cgroup: s.cgroups.adopt(string(st.GetCgroup())), oomBefore: s.oom.last(),
		}
	case *supervisorpb.JournalRecord_Stopping:
		a.stop = stop{cause: k.Stopping.GetCause(), at: task.Instant(k.Stopping.GetAt()), boot: bootTime(k.Stopping.GetBootNs()), signalled: true}
	case *supervisorpb.JournalRecord_Ended:
		a.phase, a.end = ended, k.Ended
	case *supervisorpb.JournalRecord_Forgot:
		delete(q.attempts, ref)
		q.forgotten.add(ref)
	}
	if string(r.GetBootId()) != s.boot && a.phase == running {
		a.proc.pid, a.proc.cgroup = 0, nil // numbers of another boot mean nothing now
	}
}

// marksNow reads the markers of all processes.
func (s *supervisor) marksNow() map[int]string {
	_, marks, err := census()
	if err != nil {
		s.log.Error("cannot list processes", "error", err)
	}
	return marks
}

// resume goes on with an attempt that the journal knows.
func (s *supervisor) resume(a *attempt, marks map[int]string) {
	if a.phase == ended {
		return
	}
	if a.phase == claimed && !s.findForked(a, marks) {
		s.finish(a, vanished("was about to start on %s when the supervisor was killed; it may have run, and no process of it is left", s.host))
		return
	}
	p := a.queue.poolOf(a.claim.GetPool())
	p.running++
	a.pool = p
	if fd, err := unix.Open(string(a.claim.GetLogPath()), unix.O_WRONLY|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err == nil {
		a.proc.log = fd
	}
	if a.proc.pid == 0 || !s.followers.add(a) {
		s.adoptedGone(a, s.unseenEnd(a))
		return
	}
	s.log.Info("adopted a task", "queue", a.queue.id, "task", a.ref.Seq, "attempt", a.ref.Attempt, "pid", a.proc.pid)
	if a.stop.begun() {
		s.beginEnding(a, a.grace()-time.Duration(bootNow()-a.stop.boot))
	}
}

// findForked looks for the process of an attempt that was claimed, and about
// whose start nothing was recorded. The eldest that bears its marker is it.
func (s *supervisor) findForked(a *attempt, marks map[int]string) bool {
	want := marker(a.queue.id, a.ref)
	var first process
	for pid, m := range marks {
		if m != want {
			continue
		}
		if p, ok := lookup(pid); ok && !p.zombie() && (first.pid == 0 || p.start < first.start) {
			first = p
		}
	}
	if first.pid == 0 {
		return false
	}
	began := bootTime(first.start) * bootTime(time.Second/ticksPerSecond)
	a.phase = running
	a.proc = proc{log: -1, pidfd: -1, pid: first.pid, from: first.start, to: first.start, began: began, oomBefore: s.oom.last()}
	a.proc.at = now().Add(-time.Duration(bootNow() - began))
	a.queue.journal.add(a.name, a.startedRecord())
	return s.commit(a.queue) == nil
}
