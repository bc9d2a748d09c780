package queue

import (
	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue/queuepb"
)

// waitKind is what a Pending task waits for. The numbers are on disk.
type waitKind uint8

const (
	notWaiting    waitKind = iota // it is not Pending
	waitReady                     // its turn
	waitBlocked                   // other tasks
	waitDelayed                   // the time of its next attempt
	waitHeld                      // a person
	waitCancelled                 // nothing: it is about to be cancelled
	waitKinds
)

// waitsFor follows the table in index.go. delayed says whether the task is in timers
// until its NotBefore, if it is not elsewhere for another reason.
func waitsFor(s task.Status, delayed bool) waitKind {
	switch {
	case s.State != task.Pending:
		return notWaiting
	case s.Cancel != nil:
		return waitCancelled
	case s.Blocked > 0:
		return waitBlocked
	case s.Held != "":
		return waitHeld
	case delayed:
		return waitDelayed
	default:
		return waitReady
	}
}

// waitedFor is what a task waited for before the request, as the indexes say that
// have not been touched yet.
func (b *batch) waitedFor(e *entry) waitKind {
	if e.fresh {
		return notWaiting
	}
	s := e.old.Status()
	delayed := e.woken || s.NotBefore != 0 && inBucket(b.tx, bucketTimers, timeSeqKey(s.NotBefore, e.task.Seq))
	return waitsFor(s, delayed)
}

// waitTally is how many tasks wait, by waitKind.
type waitTally [waitKinds]int

// waitCounts is how many tasks of each class wait for what: the numbers in memory,
// or a batch's changes to them. They are stored with the counts.
type waitCounts map[string]waitTally

func (c waitCounts) bump(class string, k waitKind, by int) {
	if k == notWaiting || by == 0 {
		return
	}
	t := c[class]
	t[k] += by
	c[class] = t
}

func (c waitCounts) add(delta waitCounts) {
	for class := range delta {
		if c[class] = c[class].plus(delta[class]); c[class] == (waitTally{}) {
			delete(c, class)
		}
	}
}

func (t waitTally) plus(other waitTally) waitTally {
	for k := range t {
		t[k] += other[k]
	}
	return t
}

// all is how many wait for anything.
func (t waitTally) all() (n int) {
	for k := waitReady; k < waitKinds; k++ {
		n += t[k]
	}
	return n
}

// waitsThen is what the numbers of a class will be once the batch is committed.
func (b *batch) waitsThen(class string) waitTally {
	return b.q.mem.waits[class].plus(b.waits[class])
}

func (t waitTally) records() (out []*queuepb.WaitCount) {
	for k := waitReady; k < waitKinds; k++ {
		if t[k] != 0 {
			out = append(out, &queuepb.WaitCount{Kind: uint32(k), Count: int64(t[k])})
		}
	}
	return out
}

func (c waitCounts) load(tx *bolt.Tx) error {
	return tx.Bucket(bucketCounters).ForEach(func(k, v []byte) error {
		var r queuepb.CountRecord
		if err := openMessage(bucketCounters, k, v, &r); err != nil {
			return err
		}
		for _, w := range r.Waiting {
			if w.Kind < uint32(waitKinds) {
				c.bump(string(k), waitKind(w.Kind), int(w.Count))
			}
		}
		return nil
	})
}

// waiting returns the numbers for those who ask, without classes of which nothing
// waits.
func (c waitCounts) waiting() map[string]task.Waiting {
	out := map[string]task.Waiting{}
	for class, t := range c {
		w := task.Waiting{Ready: t[waitReady], Blocked: t[waitBlocked], Delayed: t[waitDelayed], Held: t[waitHeld]}
		if w != (task.Waiting{}) {
			out[class] = w
		}
	}
	return out
}

// loadWaits reads the numbers. Where they do not add up to those that are Pending,
// the queue was last with a release that does not count them, or they are damaged:
// then the tasks are counted one by one.
func (q *Queue) loadWaits(tx *bolt.Tx, m *memory) error {
	err := m.waits.load(tx)
	if err == nil && m.waits.agree(m.counts) {
		return nil
	}
	if err != nil && !q.damaged(0, err) {
		return err
	}
	m.waits = waitCounts{}
	n := 0
	err = q.eachPhase(tx, func(seq task.Seq, class string, state task.State) error {
		if state != task.Pending {
			return nil
		}
		n++
		s, stored, err := readStatusRecord(tx, seqKey(seq))
		switch {
		case q.damaged(seq, err):
			return nil
		case err != nil:
			return err
		case !stored:
			s = task.Status{State: task.Pending}
		}
		delayed := s.NotBefore != 0 && inBucket(tx, bucketTimers, timeSeqKey(s.NotBefore, seq))
		m.waits.bump(class, waitsFor(s, delayed), 1)
		return nil
	})
	// What cannot be read stands still until somebody does something about it.
	for class, states := range m.counts {
		m.waits.bump(class, waitHeld, states[task.Pending]-m.waits[class].all())
	}
	m.recounted = true
	q.opts.Logger.Info("counted what tasks wait for", "tasks", n)
	return err
}

// agree says whether the numbers add up to those of the counts.
func (c waitCounts) agree(all counts) bool {
	for class, states := range all {
		if c[class].all() != states[task.Pending] {
			return false
		}
	}
	for class := range c {
		if c[class].all() != all[class][task.Pending] {
			return false
		}
	}
	return true
}

// storeRecounted stores numbers that were counted one by one, so that the next
// opening finds them.
func (q *Queue) storeRecounted() error {
	if !q.mem.recounted || q.opts.ReadOnly {
		return nil
	}
	q.mem.recounted = false
	return q.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketCounters)
		for class, states := range q.mem.counts {
			v, err := seal(countRecord(states, q.mem.waits[class]))
			if err == nil {
				err = b.Put([]byte(class), v)
			}
			if err != nil {
				return err
			}
		}
		tuneFreelist(tx, false)
		return nil
	})
}

// Waiting returns how many tasks of each class wait for what. The caller owns the
// map.
func (q *Queue) Waiting() map[string]task.Waiting {
	q.mem.mu.RLock()
	defer q.mem.mu.RUnlock()
	return q.mem.waits.waiting()
}
