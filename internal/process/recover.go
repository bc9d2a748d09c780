package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// queueOf returns the queue of a hello, which knows then what the hello says. The
// first time it is opened, which takes as long as its file system does: others
// do not wait for that.
func (s *supervisor) queueOf(h *supervisorpb.Hello) (*queue, error) {
	q, err := s.queueInUse(h)
	if err != nil {
		return nil, err
	}
	if q != nil {
		s.adoptLate(q, h)
		return q, nil
	}
	q, err = s.openQueue(h)
	if err = s.opened(h.GetQueueId(), q, err); err != nil {
		return nil, err
	}
	// Who asked for something before it could know that we are here has to find it done
	// before anything starts.
	s.heedRequests(q)
	return q, nil
}

// opened goes on with a queue that was opened, if it was.
func (s *supervisor) opened(id string, q *queue, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.opening, id)
	if err == nil {
		s.adoptQueue(q)
	}
	return err
}

// errOpening is the answer to a hello while another one has its queue opened. Who
// waited for that could have to wait for ever, and so could each who comes after.
var errOpening = errors.New("the queue's journal is being read: its file system is slow, or does not answer")

// queueInUse returns the queue of a hello if it is open. If not, the caller opens
// it, and takes it out of those that are being opened, whether or not that went
// well.
func (s *supervisor) queueInUse(h *supervisorpb.Hello) (*queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opening[h.GetQueueId()] {
		return nil, errOpening
	}
	if q := s.queues[h.GetQueueId()]; q != nil {
		if got := string(h.GetSpoolDir()); got != q.journal.dir {
			return nil, fmt.Errorf("the queue's spool is %s here, not %s: one queue cannot have two", q.journal.dir, got)
		}
		if q.adopting != 0 && bootNow() < q.adopting.add(helloPatience) {
			return nil, errOpening // after that it goes on without what cannot be read
		}
		return q, nil
	}
	s.opening[h.GetQueueId()] = true
	return nil, nil
}

// openQueue reads the journal of a queue and finds what it speaks of, and what it
// should speak of (see adopt.go).
func (s *supervisor) openQueue(h *supervisorpb.Hello) (*queue, error) {
	before := fileSize(filepath.Join(string(h.GetSpoolDir()), journalName))
	j, recs, err := openJournal(string(h.GetSpoolDir()), s.where.Boot)
	if errors.Is(err, errJournalHeld) {
		return nil, fmt.Errorf("%w: was one started with another XDG_RUNTIME_DIR? Use the same for all, or end that one", err)
	}
	if err != nil {
		return nil, err
	}
	q := &queue{id: h.GetQueueId(), journal: j, attempts: map[task.Ref]*attempt{}, clerk: newWaker(), size: j.size, shared: onServer(j.dir)}
	s.beat(q)
	s.show(q, false)
	q.freshen()
	for _, r := range recs {
		s.replay(q, r)
	}
	// A journal that is new, or was cut where it was damaged, may lack some.
	if err := s.complete(q, h, before < 0 || j.size < before); err != nil {
		return nil, errors.Join(err, j.close())
	}
	var now *bearers // read once, when needed
	for _, a := range q.attempts {
		if a.phase == claimed && now == nil {
			now = s.bearersNow(q)
		}
		s.find(a, now)
	}
	return q, nil
}

// adoptQueue goes on with what the journal says an earlier supervisor had begun:
// each attempt in it is followed, or its end is known, or it is lost. None is
// begun again. The supervisor's mutex is held.
func (s *supervisor) adoptQueue(q *queue) {
	s.queues[q.id] = q
	for _, a := range q.attempts {
		s.resume(a)
	}
	s.wg.Go(func() { s.clerkLoop(q) })
	s.keeper.wake()
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
	a.oldBoot = string(r.GetBootId()) != s.where.Boot
	switch k := r.GetKind().(type) {
	case *supervisorpb.JournalRecord_Claim:
		if a.recalled() { // it came back
			a.phase, a.end, a.settled = claimed, nil, false
		}
		a.claim = k.Claim
	case *supervisorpb.JournalRecord_Started:
		a.phase, a.proc = running, s.procOf(k.Started)
	case *supervisorpb.JournalRecord_Stopping:
		a.stop = stop{cause: k.Stopping.GetCause(), at: task.Instant(k.Stopping.GetAt()), boot: bootTime(k.Stopping.GetBootNs()), signalled: true}
	case *supervisorpb.JournalRecord_Ended:
		a.phase, a.end, a.settled = ended, k.Ended, true
	case *supervisorpb.JournalRecord_Forgot:
		q.drop(a)
	}
}

// procOf is the process of a record. Which cgroup is its own is found out when
// all records are read: many have had the same one, one after the other.
func (s *supervisor) procOf(st *supervisorpb.Started) proc {
	return proc{
		log: -1, pidfd: -1, pid: int(st.GetPid()), from: st.GetTicksFrom(), to: st.GetTicksTo(),
		began: bootTime(st.GetBootNs()), at: task.Instant(st.GetAt()), oomBefore: s.oom.last(),
		recorded: string(st.GetCgroup()),
	}
}

// adoptCgroup gives an attempt that may run the cgroup that its record names, if
// it is still the attempt's. Supervisors number theirs anew, so the cgroup may be
// another's by now.
func (s *supervisor) adoptCgroup(a *attempt) {
	p := &a.proc
	if p.cgroup == nil && p.recorded != "" && slices.ContainsFunc(pidsIn(p.recorded), a.owns) {
		p.cgroup = s.cgroups.adopt(p.recorded)
	}
}

// owns says that a process is the attempt's main process, or bears its marker.
func (a *attempt) owns(pid int) bool {
	if q, ok := lookup(pid); ok && a.proc.is(q) {
		return true
	}
	m, err := markerOf(pid)
	return err == nil && m == marker(a.queue.id, a.ref)
}

// fileSize returns the size of a file in bytes; -1 if there is none.
func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return -1
	}
	return info.Size()
}

// bearers is what the markers of processes tell about a queue.
type bearers struct {
	table  map[int]process
	eldest map[task.Ref]process
}

// bearersNow reads the markers of all processes.
func (s *supervisor) bearersNow(q *queue) *bearers {
	table, marks, err := census()
	if err != nil {
		s.log.Error("cannot list processes", "error", err)
	}
	return &bearers{table: table, eldest: eldest(q.id, table, marks)}
}

// find looks for the process and the log of an attempt that the journal knows.
func (s *supervisor) find(a *attempt, now *bearers) {
	if a.phase == ended || a.oldBoot || a.phase == claimed && !s.findForked(a, now) {
		return
	}
	s.adoptCgroup(a)
	a.proc.log = openOutput(a.claim.GetLogPath())
}

// resume goes on with an attempt that the journal knows.
func (s *supervisor) resume(a *attempt) {
	if a.phase == ended {
		return
	}
	p := a.queue.poolOf(a.claim.GetPool())
	p.running++
	s.active++
	a.pool = p
	switch {
	case a.oldBoot:
		s.finish(a, s.restartedEnd())
		return
	case a.phase == claimed:
		s.finish(a, vanished("was about to start on %s when the supervisor was killed; it may have run, and no process of it is left", s.where.Name))
		return
	}
	if a.proc.pid == 0 || !s.followers.add(a) {
		a.proc.unmet = true
		s.adoptedGone(a, s.unseenEnd(a))
		return
	}
	s.log.Info("adopted a task", "queue", a.queue.id, "task", a.ref.Seq, "attempt", a.ref.Attempt, "pid", a.proc.pid)
	if a.stop.begun() {
		s.beginEnding(a, a.grace()-time.Duration(bootNow()-a.stop.boot))
	}
}

// findForked looks for the process of an attempt that was claimed, and about
// whose start nothing was recorded. What bears its marker may be something that
// the main process left behind, whose end says nothing about the attempt's.
func (s *supervisor) findForked(a *attempt, now *bearers) bool {
	first, ok := now.eldest[a.ref]
	if !ok {
		return false
	}
	a.phase, a.proc = running, s.procMarked(first, now.table)
	a.queue.journal.add(a.name, a.startedRecord())
	return true
}

// procFound is a process that no record tells of.
func (s *supervisor) procFound(p process) proc {
	began := bootTime(p.start) * bootTime(time.Second/ticksPerSecond)
	return proc{
		log: -1, pidfd: -1, pid: p.pid, from: p.start, to: p.start, began: began,
		at: now().Add(-time.Duration(bootNow() - began)), oomBefore: s.oom.last(),
	}
}

// openOutput opens the output of an attempt that an earlier supervisor started, to
// see its size; -1 if it cannot. The program may have put a FIFO in its place, for
// which nobody waits here.
func openOutput(path []byte) int {
	fd, err := unix.Open(string(path), unix.O_WRONLY|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

// restartedEnd is the end of an attempt of an earlier boot that nobody saw.
func (s *supervisor) restartedEnd() *supervisorpb.End {
	return vanished("ran on %s when the machine was restarted", s.where.Name)
}
