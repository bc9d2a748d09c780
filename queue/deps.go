package queue

import (
	"bytes"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// A task that waits for others has one key in waits for each of them, and its
// Blocked is the number of its keys. When a task ends, its transaction only
// notes that under releases; Advance then sees to those that wait for it, a
// bounded number per transaction, taking the key of each as it goes. The note
// goes when no key is left, so a crash in between loses and repeats nothing.

// conditions are the ends of one task that another waits for. A spec may name a
// task twice with two conditions; both have to be met then.
type conditions byte

func (c conditions) with(cond task.Condition) conditions { return c | 1<<cond }

// unmet returns a condition that the end does not satisfy.
func (c conditions) unmet(end ending) (task.Condition, bool) {
	for _, cond := range []task.Condition{task.AfterOK, task.AfterAny, task.AfterNotOK} {
		met := cond.Met(end.state) || end.unknown && cond == task.AfterAny
		if c&(1<<cond) != 0 && !met {
			return cond, true
		}
	}
	return 0, false
}

// wait is one task that another waits for.
type wait struct {
	dep  task.Seq
	when conditions
}

// dependencies is what a spec's After comes to at this moment.
type dependencies struct {
	waits  []wait // on those that have not ended
	refuse string // why it can never run; "" = it can
}

// resolve looks at the tasks that a spec waits for, whose Seqs are known.
func (b *batch) resolve(after []task.Dep) (dependencies, error) {
	var out dependencies
	at := map[task.Seq]int{} // index in out.waits
	for _, d := range after {
		if i, ok := at[d.Seq]; ok {
			out.waits[i].when = out.waits[i].when.with(d.When)
			continue
		}
		end, err := b.endOf(d.Seq)
		if err != nil {
			return dependencies{}, fmt.Errorf("what is stored about %s cannot be read: %w", d.ID, err)
		}
		switch {
		case end == nil:
			at[d.Seq] = len(out.waits)
			out.waits = append(out.waits, wait{dep: d.Seq, when: conditions(0).with(d.When)})
		case end.state != 0 && !d.When.Met(end.state) && out.refuse == "":
			out.refuse = refusal(d.When, d.ID, *end)
		}
	}
	return out, nil
}

// ending is how a task ended.
type ending struct {
	state   task.State // 0 = so long ago that nobody knows; it stands in nobody's way
	message string     // "" when only the tombstone is left
	unknown bool       // it has ended, and what is stored about its end is damaged
}

// endOf returns nil for a task that has not ended. It reads no spec.
func (b *batch) endOf(seq task.Seq) (*ending, error) {
	k := seqKey(seq)
	var s task.Status
	if e, loaded := b.tasks[seq]; loaded {
		s = e.task.Status()
	} else {
		if b.tx.Bucket(bucketSpecs).Get(k) == nil {
			v := b.tx.Bucket(bucketTombs).Get(k)
			if v == nil {
				return &ending{}, nil
			}
			f, err := readFinal(k, v)
			return &ending{state: f.State}, err
		}
		var err error
		if s, _, err = readStatusRecord(b.tx, k); err != nil {
			return nil, err
		}
	}
	if !s.State.Terminal() {
		return nil, nil
	}
	return &ending{state: s.State, message: s.Outcome.Message}, nil
}

// unknownEnd tells a dependency that cannot be looked at, which refuses what
// somebody asked for, from a failure.
func (b *batch) unknownEnd(id string, err error) (refused, failed error) {
	if !b.q.damaged(0, err) {
		return nil, err
	}
	return task.Errorf(task.CodeConflict, "task %s waits for another, and %w; submit it again without waiting for that one", id, err), nil
}

// refusal is the sentence for a task whose condition cannot be met any more.
func refusal(when task.Condition, dep string, end ending) string {
	wanted := "to succeed"
	if when == task.AfterNotOK {
		wanted = "to end without success"
	}
	if end.unknown {
		return fmt.Sprintf("waits for %s %s, but what is stored about %s is damaged, so that nobody can tell how it ended", dep, wanted, dep)
	}
	text := fmt.Sprintf("waits for %s %s, but %s %s", dep, wanted, dep, endVerb(end.state))
	if end.message != "" && end.state != task.Succeeded {
		text += " (" + end.message + ")"
	}
	return text
}

func endVerb(s task.State) string {
	switch s {
	case task.Cancelled:
		return "was cancelled"
	case task.Lost:
		return "is lost"
	default:
		return s.String() // failed, succeeded
	}
}

// storeWaits brings the keys in waits in line with a task. One that is Pending
// no more, or of a later attempt, waits no longer as it did; what a later
// attempt waits for was found out when it began.
func (b *batch) storeWaits(e *entry) error {
	waits := b.bucket(bucketWaits)
	pending := e.task.State() == task.Pending
	if !e.fresh && e.old.Status().Blocked > 0 && (!pending || e.task.Attempt() != e.old.Attempt()) {
		for _, d := range e.task.Spec.After {
			if err := waits.Delete(seqSeqKey(d.Seq, e.task.Seq)); err != nil {
				return err
			}
		}
	}
	if !pending {
		return nil
	}
	for _, w := range e.waits {
		if err := waits.Put(seqSeqKey(w.dep, e.task.Seq), []byte{byte(w.when)}); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) hasWaiters(seq task.Seq) bool { return len(waiters(b.tx, seq, 1, nobody)) > 0 }

func nobody(task.Seq) bool { return false }

// waiter is one task that waits for another.
type waiter struct {
	seq  task.Seq
	when conditions
}

// waiters returns up to limit tasks that wait for one, the oldest first, but not
// those to be left out.
func waiters(tx *bolt.Tx, dep task.Seq, limit int, leaveOut func(task.Seq) bool) []waiter {
	var out []waiter
	prefix := seqKey(dep)
	c := tx.Bucket(bucketWaits).Cursor()
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix) && len(out) < limit; k, v = c.Next() {
		w := waiter{seq: keyWaiter(k)}
		if leaveOut(w.seq) {
			continue
		}
		if len(v) == 1 {
			w.when = conditions(v[0])
		}
		out = append(out, w)
	}
	return out
}

// release sees to up to limit tasks that wait for one that has ended, and
// returns how many there were.
func (b *batch) release(now task.Instant, dep task.Seq, limit int) (int, error) {
	end, err := b.endOf(dep)
	switch {
	case b.q.damaged(dep, err):
		end = &ending{unknown: true} // that it has ended is why we are here
	case err != nil:
		return 0, err
	case end == nil: // a retry has begun since
		return 0, b.drop(bucketReleases, seqKey(dep))
	}
	list := waiters(b.tx, dep, limit, b.q.unreadable)
	for _, w := range list {
		e, err := b.entry(w.seq)
		if k := seqSeqKey(dep, w.seq); errors.Is(err, ErrNotFound) {
			b.q.passOver(bucketWaits, k, w.seq, err)
			if err := b.drop(bucketWaits, k); err != nil {
				return 0, err
			}
			continue
		}
		if b.q.damaged(w.seq, err) {
			continue // it goes on waiting, and its key stays with it
		}
		if err != nil {
			return 0, err
		}
		if err := b.releaseOne(now, e, dep, *end, w.when); err != nil {
			return 0, err
		}
		if err := b.drop(bucketWaits, seqSeqKey(dep, w.seq)); err != nil {
			return 0, err
		}
	}
	if len(list) < limit {
		return len(list), b.drop(bucketReleases, seqKey(dep))
	}
	return len(list), nil
}

func (b *batch) releaseOne(now task.Instant, e *entry, dep task.Seq, end ending, when conditions) error {
	if e.task.State() != task.Pending {
		return nil // another dependency has just refused it, in this transaction
	}
	ev := task.Event{Kind: task.EventDepEnded, At: now, Attempt: e.task.Attempt()}
	if cond, unmet := when.unmet(end); unmet {
		ev.Kind = task.EventRefused
		ev.Text = refusal(cond, depID(e.task.Spec, dep), end)
	}
	return b.step(e, ev)
}

// depID returns what a spec calls the task that it waits for.
func depID(s *task.Spec, dep task.Seq) string {
	for _, d := range s.After {
		if d.Seq == dep {
			return d.ID
		}
	}
	return fmt.Sprintf("task number %d", dep)
}
