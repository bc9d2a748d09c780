package process

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// A journal may be gone, cut, or that of an earlier boot. What it does not say is
// taken from where else it is written: the journals of earlier boots, what the
// queue has on record, and the markers of the processes themselves.

// complete adds to a queue what its journal does not know. It comes before the
// queue is used, so that nothing that runs is started again; nobody else has the
// queue yet. patchy means that the journal may have been lost.
func (s *supervisor) complete(q *queue, h *supervisorpb.Hello, patchy bool) error {
	s.takeOver(q, texts(h.GetFormerSpools()))
	for _, a := range s.unknown(q, h.GetKnown()) {
		q.include(a)
	}
	if patchy {
		return s.includeMarked(q)
	}
	return nil
}

// include takes in an attempt that the journal does not know.
func (q *queue) include(a *attempt) {
	q.attempts[a.ref] = a
	q.journal.buf = q.snapshotOf(q.journal.buf, a)
}

// adoptLate is complete for a queue that is in use.
func (s *supervisor) adoptLate(q *queue, h *supervisorpb.Hello) {
	if s.beginAdopting(q) {
		s.takeOver(q, texts(h.GetFormerSpools()))
		s.endAdopting(q)
	}
	s.adoptKnown(q, h.GetKnown())
}

// beginAdopting says whether the caller may read the journals of earlier boots.
// One at a time does: where they cannot be read, each client that comes would
// leave one more thread behind.
func (s *supervisor) beginAdopting(q *queue) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.adopting != 0 {
		return false
	}
	q.adopting = bootNow()
	return true
}

func (s *supervisor) endAdopting(q *queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.adopting = 0
}

// adoptKnown follows attempts of which nothing was known here. Those that have
// ended meanwhile end as unseen, once nothing is left of them.
func (s *supervisor) adoptKnown(q *queue, known []*supervisorpb.Known) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.unknown(q, known) {
		if q.knows(a.ref) { // it was named twice
			a.proc.cgroup.release()
			continue
		}
		q.include(a)
		s.resume(a)
		q.openLater(a)
	}
}

// unknown makes attempts of those that the queue has on record as started, and
// that are not known here.
func (s *supervisor) unknown(q *queue, known []*supervisorpb.Known) (out []*attempt) {
	for _, k := range known {
		if k.GetBootId() != s.where.Boot || k.GetPids() != 0 && k.GetPids() != s.where.PIDs || k.GetStarted().GetPid() <= 1 {
			continue // its pid says nothing here
		}
		if !q.knows(refOf(k.GetName())) {
			out = append(out, found(q, k.GetName(), k.GetClaim(), s.procKnown(k.GetStarted())))
		}
	}
	return out
}

// knows says whether nothing has to be found out about the attempt.
func (q *queue) knows(ref task.Ref) bool { return q.attempts[ref] != nil || q.forgotten.has(ref) }

// found is an attempt that has a process and no record.
func found(q *queue, n *supervisorpb.Name, c *supervisorpb.Claim, p proc) *attempt {
	if c == nil {
		c = &supervisorpb.Claim{}
	}
	a := newAttempt(q, n, c)
	a.phase, a.proc = running, p
	return a
}

// procKnown is the process of a handle. A cgroup is used again, so it is this
// process's only if that is in it.
func (s *supervisor) procKnown(st *supervisorpb.Started) proc {
	p := s.procOf(st)
	if q, ok := lookup(p.pid); ok && p.is(q) && slices.Contains(pidsIn(string(st.GetCgroup())), p.pid) {
		p.cgroup = s.cgroups.adopt(string(st.GetCgroup()))
	}
	return p
}

// includeMarked takes in what bears a marker of the queue and is not known from
// elsewhere: what was started, and not reported before the journal was lost.
func (s *supervisor) includeMarked(q *queue) error {
	table, marks, err := census()
	if err != nil {
		return fmt.Errorf("look for running tasks of the queue (nothing starts before that is done): %w", err)
	}
	for ref, p := range eldest(q.id, table, marks) {
		if !q.knows(ref) {
			q.include(found(q, nameOf(ref), nil, s.procMarked(p, table)))
		}
	}
	return nil
}

// procMarked is the process of an attempt of which p bears the marker. What we
// start leads a session. It may hide its environment, or be gone; the end of p
// would not be its end then. Nor is it the leader of a session that somebody else
// began, if p was started anew from there.
func (s *supervisor) procMarked(p process, table map[int]process) proc {
	if p.pid == p.session {
		return s.procFound(p)
	}
	if lead, ok := table[p.session]; ok && lead.start <= p.start && !foreign(lead.pid, p.pid) {
		return s.procFound(lead)
	}
	none := s.procFound(p)
	none.pid = 0
	return none
}

// foreign says whether a process shows an environment that lacks the marker of
// another one. A program that hides its environment shows an empty one, or none.
func foreign(pid, bearer int) bool {
	env, err := environOf(pid)
	if err != nil || len(bytes.Trim(env, "\x00")) == 0 {
		return false
	}
	want, err := markerOf(bearer)
	return err != nil || markerIn(env) != want
}

// eldest returns the first process of each attempt of the queue that has any.
func eldest(queueID string, table map[int]process, marks map[int]string) map[task.Ref]process {
	out := map[task.Ref]process{}
	for pid, m := range marks {
		ref, ok := parseMarker(queueID, m)
		p := table[pid]
		if !ok || p.zombie() {
			continue
		}
		if first, ok := out[ref]; !ok || p.start < first.start || p.start == first.start && p.pid < first.pid {
			out[ref] = p
		}
	}
	return out
}

// parseMarker reads a marker; false if it is none of the queue's.
func parseMarker(queueID, m string) (task.Ref, bool) {
	rest, ok := strings.CutPrefix(m, queueID+".")
	seq, attempt, dot := strings.Cut(rest, ".")
	n, err := strconv.ParseUint(seq, 10, 64)
	k, err2 := strconv.Atoi(attempt)
	return task.Ref{Seq: task.Seq(n), Attempt: k}, ok && dot && err == nil && err2 == nil
}

// claimIn is what a start says that has to be known as long as it runs.
func claimIn(st *supervisorpb.Start) *supervisorpb.Claim {
	return &supervisorpb.Claim{TimeoutNs: st.GetTimeoutNs(), GraceNs: st.GetGraceNs(), LogPath: st.GetLogPath(), Pool: st.GetPool()}
}

// learnClaim completes an attempt that was found by its marker, when it is handed
// over again. The supervisor's mutex is held.
func (s *supervisor) learnClaim(a *attempt, st *supervisorpb.Start) {
	if a.phase != running || a.proc.gone || len(a.claim.GetLogPath()) > 0 {
		return
	}
	c := claimIn(st)
	c.Pool = a.claim.GetPool() // it has its place already
	a.claim = c
	a.queue.record(a, c, sequel{})
	a.queue.openLater(a)
	s.keepFor(a)
}
