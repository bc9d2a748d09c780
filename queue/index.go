package queue

import (
	"encoding/binary"
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Every task is in the indexes exactly as its state says:
//
//	Pending, cancel asked         timers, due at once
//	Pending, blocked              waits, once for each task that it waits for
//	Pending, held                 none
//	Pending, not before a time    timers until then, ready from then on
//	Pending otherwise             ready
//	Assigned to Stopping          active
//	ended                         ended; releases, while others wait for it
//
// reindex is the only place that knows this, beside Check, which proves it.

// storeTasks stores the tasks that the request changed.
func (b *batch) storeTasks() error {
	slices.Sort(b.order)
	b.order = slices.DeleteFunc(b.order, func(seq task.Seq) bool { return !b.tasks[seq].dirty })
	// Who waits for whom comes first: a task that ends notes whether anybody does.
	for _, seq := range b.order {
		if err := b.storeWaits(b.tasks[seq]); err != nil {
			return err
		}
	}
	for _, seq := range b.order {
		e := b.tasks[seq]
		was := b.waitedFor(e)
		if err := b.storeStatus(e); err != nil {
			return err
		}
		if err := b.reindex(e); err != nil {
			return err
		}
		if err := b.relist(e); err != nil {
			return err
		}
		b.count(e, was)
	}
	clear(b.tasks)
	b.order = b.order[:0]
	b.inserted, b.before = 0, -1
	return nil
}

// storeStatus leaves out the status that a task without a record has anyway.
func (b *batch) storeStatus(e *entry) error {
	s := e.task.Status()
	if e.fresh && s.State == task.Pending && s.Blocked == 0 {
		return nil
	}
	v, err := seal(encodeStatus(s))
	if err != nil {
		return err
	}
	return b.bucket(bucketStatus).Put(seqKey(e.task.Seq), v)
}

// count counts a task that waited for something else before.
func (b *batch) count(e *entry, was waitKind) {
	class := e.task.Spec.Class
	if !e.fresh {
		b.counts.bump(class, e.old.State(), -1)
	}
	b.counts.bump(class, e.task.State(), +1)
	b.waits.bump(class, was, -1)
	b.waits.bump(class, waitsFor(e.task.Status(), e.delayed()), +1)
}

// delayed says of a task that waits for nothing else whether its time has not come.
func (e *entry) delayed() bool { return e.task.Status().NotBefore > e.at }

// reindex moves a task from where its old status had it to where the new one
// wants it.
func (b *batch) reindex(e *entry) error {
	if !e.fresh {
		if e.old.State().Active() && e.task.State().Active() {
			return nil
		}
		if err := b.unindex(e); err != nil {
			return err
		}
	}
	seq, s := e.task.Seq, e.task.Status()
	switch {
	case s.State.Terminal():
		return b.indexEnded(e)
	case s.State.Active():
		return b.bucket(bucketActive).Put(seqKey(seq), nil)
	case s.Cancel != nil:
		b.wake = true
		return b.bucket(bucketTimers).Put(timeSeqKey(0, seq), nil)
	case s.Blocked > 0 || s.Held != "":
		return nil
	case e.delayed():
		b.wake = true
		return b.bucket(bucketTimers).Put(timeSeqKey(s.NotBefore, seq), nil)
	default:
		return b.indexReady(e)
	}
}

func (b *batch) indexReady(e *entry) error {
	b.wake = true
	id, err := b.shape(e.task.Spec.Shape())
	if err != nil {
		return err
	}
	b.shapes.entered[id] = struct{}{}
	return b.bucket(bucketReady).Put(readyKey(id, e.task.Spec.Order(), e.task.Seq), readyValue(e))
}

// readyValue is what a Head needs and the spec does not say: nothing, for a
// task that was ready from the start.
func readyValue(e *entry) []byte {
	since := max(e.at, e.task.Status().NotBefore)
	if e.task.Attempt() == 1 && since == e.task.Spec.SubmittedAt {
		return nil
	}
	return binary.AppendUvarint(binary.AppendVarint(nil, int64(since)), uint64(e.task.Attempt()))
}

func parseReadyValue(v []byte, spec task.Instant) (since task.Instant, attempt int) {
	if len(v) == 0 {
		return spec, 1
	}
	at, n := binary.Varint(v)
	a, _ := binary.Uvarint(v[max(n, 0):])
	return task.Instant(at), int(a)
}

// indexEnded also notes, in the same transaction, that those that wait for the
// task have to be seen to.
func (b *batch) indexEnded(e *entry) error {
	b.wake = true
	seq, s := e.task.Seq, e.task.Status()
	if err := b.bucket(bucketEnded).Put(timeSeqKey(s.EndedAt, seq), []byte{byte(s.State)}); err != nil {
		return err
	}
	if !b.hasWaiters(seq) {
		return nil
	}
	return b.bucket(bucketReleases).Put(seqKey(seq), nil)
}

func (b *batch) unindex(e *entry) error {
	seq, s := e.task.Seq, e.old.Status()
	switch {
	case s.State.Active():
		return b.bucket(bucketActive).Delete(seqKey(seq))
	case s.State.Terminal():
		if err := b.bucket(bucketReleases).Delete(seqKey(seq)); err != nil {
			return err
		}
		return b.bucket(bucketEnded).Delete(timeSeqKey(s.EndedAt, seq))
	}
	for _, due := range []task.Instant{0, s.NotBefore} {
		if err := b.bucket(bucketTimers).Delete(timeSeqKey(due, seq)); err != nil {
			return err
		}
	}
	id, ok := b.knownShape(e.task.Spec.Shape())
	if !ok {
		return nil
	}
	b.shapes.left[id] = struct{}{}
	return b.bucket(bucketReady).Delete(readyKey(id, e.task.Spec.Order(), seq))
}
