package process

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// Records are added to a queue's journal under the supervisor's mutex and
// written outside of it: a file server that hangs holds up its own queue, and
// nobody else. What may only happen once a record is written waits in the
// queue's list of sequels.

const (
	// sequelPatience is how long a stop signal, and the report of an end, wait for
	// a journal that cannot be written.
	sequelPatience = 2 * time.Second
	// writePauseFirst and writePauseLast are between two attempts to write.
	writePauseFirst = 100 * time.Millisecond
	writePauseLast  = time.Second
	// compactPause is when to try again to make a journal smaller.
	compactPause = time.Minute
)

// sequel is what follows when a record is in the journal.
type sequel struct {
	do func() // with the supervisor's mutex held; nil = done
	// must means that it never comes before the record. A claim is of that kind:
	// what is forked without one could be forked twice. The others wait for a
	// while only: a task that has to end is ended, and an end is told, for the
	// queue that hears of it is as good a place to keep it.
	must bool
	// unwritten comes before do where that has waited long enough, and the record
	// is not in the journal; nil = nothing.
	unwritten func()
	added     bootTime
}

// trouble is what is known about a journal that cannot be written.
type trouble struct {
	err     error // nil = there is none
	pause   time.Duration
	retryAt bootTime
}

// record adds a record, and what follows when it is written. The supervisor's
// mutex is held; whoever holds it sees to it that the journal is written.
func (q *queue) record(a *attempt, kind isJournalKind, then sequel) {
	q.journal.add(a.name, kind)
	if then.do != nil {
		then.added = bootNow()
		q.sequels = append(q.sequels, then)
	}
}

// flush writes the journal of a queue and does what follows from it. With take
// it returns the attempt that a runner, which the caller is, goes on with.
func (s *supervisor) flush(q *queue, take bool) (next *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(q)
	if take {
		next = s.takeReady()
	}
	s.hire()
	return next
}

// write writes what the journal has collected, unless somebody does already, who
// then writes this too. It lets go of the supervisor's mutex meanwhile.
func (s *supervisor) write(q *queue) {
	if q.writing {
		return
	}
	q.writing = true
	for (q.journal.pending() || q.rewrite) && (q.trouble.err == nil || q.trouble.retryAt <= bootNow()) {
		taken, sequels, whole := q.journal.take(), len(q.sequels), q.rewrite
		b := taken
		if whole {
			b = q.snapshot() // it holds all that was taken
		}
		s.mu.Unlock()
		err := q.journal.put(b, whole)
		s.mu.Lock()
		if err != nil {
			q.journal.giveBack(taken)
			s.notWritten(q, whole, err)
			continue
		}
		q.journal.recycle(taken)
		s.written(q, whole, sequels)
	}
	q.writing = false
}

// put appends the records, or makes them the whole journal.
func (j *journal) put(b []byte, whole bool) error {
	switch {
	case !whole:
		return j.append(b)
	case len(b) == 0 && !j.removed():
		return j.reset()
	default:
		return j.replace(b)
	}
}

// written does what waited for the records that are in the journal now: the
// first so many sequels.
func (s *supervisor) written(q *queue, whole bool, sequels int) {
	if q.trouble.err != nil {
		s.log.Info("the journal of a queue can be written again", "queue", q.id, "dir", q.journal.dir)
	}
	q.trouble, q.size = trouble{}, q.journal.size
	if whole {
		q.rewrite = false
	}
	for i := range sequels {
		if do := q.sequels[i].do; do != nil {
			do()
		}
	}
	q.sequels = slices.Delete(q.sequels, 0, sequels)
}

// notWritten sees to it that a write is tried again.
func (s *supervisor) notWritten(q *queue, whole bool, err error) {
	// A stale handle stays stale; a new file has another.
	stale := errors.Is(err, unix.ESTALE) || errors.Is(err, unix.EBADF)
	q.rewrite = stale || q.rewrite && !whole
	t := &q.trouble
	if whole && !stale && t.err == nil {
		s.log.Warn("a journal cannot be made smaller", "queue", q.id, "dir", q.journal.dir, "error", err)
		q.compactAt = bootNow().add(compactPause)
		return
	}
	if t.err == nil {
		s.log.Warn("a journal cannot be written: no task of its queue starts until it can; make room or mend the file system",
			"queue", q.id, "dir", q.journal.dir, "error", err)
		t.pause = writePauseFirst
	}
	t.err, t.retryAt = err, bootNow().add(t.pause)
	t.pause = min(2*t.pause, writePauseLast)
	q.clerk.wake() // it comes again when it is time
}

// overdue does what has waited long enough for a record, though it is not
// written. The supervisor's mutex is held.
func (q *queue) overdue(at bootTime) {
	for i := range q.sequels {
		then := &q.sequels[i]
		if then.do != nil && !then.must && then.added.add(sequelPatience) <= at {
			do := then.do
			then.do = nil
			if then.unwritten != nil {
				then.unwritten()
			}
			do()
		}
	}
}

// compact has the journal made small: with only what is still needed.
func (q *queue) compact() {
	if q.size > 0 && bootNow() >= q.compactAt {
		q.rewrite = true
		q.clerk.wake()
	}
}

// snapshot returns the records of all that a later supervisor has to know.
func (q *queue) snapshot() []byte {
	var b []byte
	for _, a := range q.attempts {
		if a.phase != queued {
			b = q.snapshotOf(b, a)
		}
	}
	return b
}

// snapshotOf appends the records of one attempt.
func (q *queue) snapshotOf(b []byte, a *attempt) []byte {
	if a.end.GetKind() != supervisorpb.End_KIND_NOT_BEGUN { // for who reads it elsewhere, a claim says that it began
		b = q.journal.encode(b, a.name, a.claim)
	}
	if a.proc.pid != 0 {
		b = q.journal.encode(b, a.name, a.startedRecord())
	}
	if a.stop.begun() {
		b = q.journal.encode(b, a.name, a.stoppingRecord())
	}
	if a.end != nil {
		b = q.journal.encode(b, a.name, a.end)
	}
	return b
}
