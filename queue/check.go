package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ErrInconsistent is what errors.Is finds in what Check returns when records and
// indexes disagree.
var ErrInconsistent = errors.New("the queue's records and indexes disagree")

// inconsistency is one such disagreement.
type inconsistency struct {
	seq  task.Seq // the task that it is about; 0 = none, or more than one
	text string
}

// Error names the task.
func (e *inconsistency) Error() string {
	if e.seq == 0 {
		return fmt.Sprintf("%s: %s", ErrInconsistent, e.text)
	}
	return fmt.Sprintf("%s: task %d %s", ErrInconsistent, e.seq, e.text)
}

// pagesError says that the pages of the database disagree.
type pagesError struct{ cause error }

func (e *pagesError) reason() string { return fmt.Sprint("database pages: ", e.cause) }

func (e *pagesError) Error() string { return fmt.Sprintf("%s: %s", ErrInconsistent, e.reason()) }

func (e *pagesError) Unwrap() error { return e.cause }

// Is makes errors.Is(err, ErrInconsistent) true.
func (e *pagesError) Is(target error) bool { return target == ErrInconsistent }

// Is makes errors.Is(err, ErrInconsistent) true.
func (e *inconsistency) Is(target error) bool { return target == ErrInconsistent }

// maxFindings bounds how much Check reports; the first few tell the story.
const maxFindings = 20

// Check reads the whole database and returns everything that is wrong with it, or
// nil: damaged records, indexes that disagree with
// them in either direction, wrong counters, a gap in the event log, pages that
// bbolt holds for lost. It takes time and memory in proportion to the number of
// tasks. Calls that change the queue go on meanwhile, unless the database outgrows
// its mapping, and but for the last part: while bbolt's pages are counted nothing
// can be committed.
func (q *Queue) Check(ctx context.Context) error {
	if err := q.view(func(tx *bolt.Tx) error { return errors.Join(checkRecords(ctx, tx, maxFindings)...) }); err != nil {
		return err
	}
	return q.checkPages()
}

// checkRecords returns what is wrong, but not much more than limit of it.
func checkRecords(ctx context.Context, tx *bolt.Tx, limit int) []error {
	c := &checker{
		ctx: ctx, tx: tx, limit: limit, counts: counts{}, waits: waitCounts{}, envs: map[string]int{}, want: map[string]map[string][]byte{},
		tasks: map[task.Seq]checkedTask{}, shapes: newShapes(),
	}
	steps := []func() error{
		c.loadShapes, c.checkTasks, c.checkTombs, c.checkIndexes, c.checkCounters, c.checkPaused, c.checkEnvs, c.checkBlobs,
		c.checkIDs, c.checkEvents,
	}
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return []error{err}
		}
		if err := step(); err != nil {
			c.found = append(c.found, err)
		}
		if len(c.found) >= limit {
			break
		}
	}
	return c.found
}

// checkPages takes a transaction that writes, and writes nothing: bbolt compares
// the pages with its list of free ones, which must not change meanwhile. No other
// transaction of ours may be open then: a commit that has to map the file anew
// waits for readers to end, and this would wait for that commit.
func (q *Queue) checkPages() error { return q.guard(q.checkPagesNow) }

func (q *Queue) checkPagesNow() error {
	tx, err := q.begin(!q.opts.ReadOnly)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // there is nothing to lose
	var found []error
	for err := range tx.Check() { // to its end: a goroutine of bbolt's fills the channel
		if len(found) < maxFindings {
			found = append(found, &pagesError{err})
		}
	}
	return errors.Join(found...)
}

// checker collects what the records say the indexes should hold, and compares.
type checker struct {
	ctx    context.Context
	tx     *bolt.Tx
	limit  int
	tasks  map[task.Seq]checkedTask
	counts counts
	waits  waitCounts
	envs   map[string]int // specs by the hash of their environment
	shapes shapes
	want   map[string]map[string][]byte // bucket, key, value; nil value = any
	found  []error
}

// checkedTask is what the checker remembers of a task.
type checkedTask struct {
	id    string
	state task.State
}

// wrong notes what is wrong with a task; seq 0 = with none, or with more than one.
func (c *checker) wrong(seq task.Seq, format string, args ...any) {
	if len(c.found) < c.limit {
		c.found = append(c.found, &inconsistency{seq: seq, text: fmt.Sprintf(format, args...)})
	}
}

func (c *checker) expect(bucket, key, value []byte) {
	m := c.want[string(bucket)]
	if m == nil {
		m = map[string][]byte{}
		c.want[string(bucket)] = m
	}
	m[string(key)] = value
}

func (c *checker) loadShapes() error {
	return c.shapes.load(c.tx, func(_ shapeID, err error) (string, error) {
		c.found = append(c.found, err)
		return "", nil
	})
}

// checkTasks reads every task and notes where it has to be found.
func (c *checker) checkTasks() error {
	return c.tx.Bucket(bucketSpecs).ForEach(func(k, _ []byte) error {
		seq := keySeq(k)
		t, err := readTask(c.tx, seq)
		if err != nil {
			c.found = append(c.found, err)
			return c.ctx.Err()
		}
		c.tasks[seq] = checkedTask{t.Spec.ID, t.State()}
		c.counts.bump(t.Spec.Class, t.State(), 1)
		if h := hashEnv(t.Spec.Ambient); h != (envHash{}) {
			c.envs[string(h[:])]++
		}
		if t.Spec.SubmittedAt == 0 || t.Seq == 0 || t.Attempt() < 1 {
			c.wrong(seq, "has no submit time, number or attempt")
		}
		c.place(t)
		return c.ctx.Err()
	})
}

func (c *checker) place(t task.Task) {
	seq, s := t.Seq, t.Status()
	lease := s.Lease.CPUMilli != 0 || s.Lease.MemBytes != 0 || len(s.Lease.GPUs) > 0
	if lease && !s.State.Active() {
		c.wrong(seq, "is %s and has a lease", s.State)
	}
	c.expect(bucketLists, listKey(t.Spec.Class, phase(s.State), seq), nil)
	delayed := s.NotBefore != 0 && inBucket(c.tx, bucketTimers, timeSeqKey(s.NotBefore, seq))
	c.waits.bump(t.Spec.Class, waitsFor(s, delayed), 1)
	switch {
	case s.State.Terminal():
		c.expect(bucketEnded, timeSeqKey(s.EndedAt, seq), []byte{byte(s.State)})
	case s.State.Active():
		c.expect(bucketActive, seqKey(seq), nil)
	case s.State != task.Pending:
		c.wrong(seq, "has state %d, which does not exist", uint8(s.State))
	case s.Cancel != nil:
		c.expect(bucketTimers, timeSeqKey(0, seq), nil)
	case s.Blocked > 0 || s.Held != "":
	default:
		c.placeReady(t)
	}
	c.placeWaits(t)
}

// placeReady: a retry that has to wait is in timers, and in ready once it was
// moved there.
func (c *checker) placeReady(t task.Task) {
	due := timeSeqKey(t.Status().NotBefore, t.Seq)
	if t.Status().NotBefore != 0 && inBucket(c.tx, bucketTimers, due) {
		c.expect(bucketTimers, due, nil)
		return
	}
	id, ok := c.shapes.byName[t.Spec.Shape()]
	if !ok {
		c.wrong(t.Seq, "is ready, and its shape is unknown")
		return
	}
	c.expect(bucketReady, readyKey(id, t.Spec.Order(), t.Seq), nil)
	c.expect(bucketShapes, shapeKey(id), nil)
}

func inBucket(tx *bolt.Tx, name, key []byte) bool {
	k, _ := tx.Bucket(name).Cursor().Seek(key)
	return bytes.Equal(k, key)
}

// placeWaits: Blocked is the number of keys in waits.
func (c *checker) placeWaits(t task.Task) {
	n := 0
	seen := map[task.Seq]bool{}
	for _, d := range t.Spec.After {
		key := seqSeqKey(d.Seq, t.Seq)
		if t.State() != task.Pending || seen[d.Seq] || !inBucket(c.tx, bucketWaits, key) {
			continue
		}
		seen[d.Seq] = true
		n++
		c.expect(bucketWaits, key, nil)
	}
	if t.State() == task.Pending && n != t.Status().Blocked {
		c.wrong(t.Seq, "is blocked by %d others and has %d keys in waits", t.Status().Blocked, n)
	}
}

func (c *checker) checkTombs() error {
	return c.tx.Bucket(bucketTombs).ForEach(func(k, v []byte) error {
		f, err := readFinal(k, v)
		if err != nil {
			c.found = append(c.found, err)
			return nil
		}
		if _, both := c.tasks[f.Seq]; both || f.Seq != keySeq(k) || !f.State.Terminal() {
			c.wrong(keySeq(k), "has a tombstone, and exists or has not ended")
		}
		return nil
	})
}

// checkIndexes compares each index with what the records want it to hold.
func (c *checker) checkIndexes() error {
	names := [][]byte{bucketReady, bucketShapes, bucketTimers, bucketActive, bucketEnded, bucketWaits}
	if listsKept(c.tx) {
		names = append(names, bucketLists)
	}
	for _, name := range names {
		want := c.want[string(name)]
		_ = c.tx.Bucket(name).ForEach(func(k, v []byte) error { // the function returns no error
			expected, ok := want[string(k)]
			if !ok {
				c.wrong(keyAbout(name, k), "is in index %s (%x), where it should not be", name, k)
			} else if expected != nil && !bytes.Equal(expected, v) {
				c.wrong(keyAbout(name, k), "has %x in index %s (%x), and should have %x", v, name, k, expected)
			}
			delete(want, string(k))
			return nil
		})
		for k := range want {
			c.wrong(keyAbout(name, []byte(k)), "is not in index %s (%x), where it should be", name, k)
		}
	}
	c.checkReleases()
	return nil
}

// keyAbout returns the task that the key of an index is about; 0 = it has none.
func keyAbout(index, k []byte) task.Seq {
	if bytes.Equal(index, bucketShapes) {
		return 0
	}
	return keyNumber(k)
}

// checkReleases: whoever waits for an ended task is in somebody's to-do.
func (c *checker) checkReleases() {
	releases := c.tx.Bucket(bucketReleases)
	for seq, t := range c.tasks {
		noted := inBucket(c.tx, bucketReleases, seqKey(seq))
		waited := len(waiters(c.tx, seq, 1, nobody)) > 0
		if noted && !t.state.Terminal() {
			c.wrong(seq, "is noted to release others, and has not ended")
		}
		if waited && t.state.Terminal() && !noted {
			c.wrong(seq, "has ended, and those that wait for it will never hear")
		}
	}
	_ = releases.ForEach(func(k, _ []byte) error { // the function returns no error
		if _, ok := c.tasks[keySeq(k)]; !ok {
			c.wrong(keySeq(k), "is noted to release others, and does not exist")
		}
		return nil
	})
}

func (c *checker) checkCounters() error {
	stored := counts{}
	if err := stored.load(c.tx); err != nil {
		return err
	}
	if !maps.EqualFunc(stored, c.counts, maps.Equal[map[task.State]int, map[task.State]int]) {
		c.wrong(0, "the counters say %v, and there are %v", stored, c.counts)
	}
	if !listsKept(c.tx) {
		return nil // a release that does not know what follows had the queue last
	}
	waits := waitCounts{}
	if err := waits.load(c.tx); err != nil {
		return err
	}
	if told, there := waits.waiting(), c.waits.waiting(); !maps.Equal(told, there) {
		c.wrong(0, "of those that wait the counters say %v, and there are %v", told, there)
	}
	return nil
}

func (c *checker) checkPaused() error {
	return eachPaused(c.tx, func(_ string, _ task.Pause, err error) error {
		if err != nil {
			c.found = append(c.found, err)
		}
		return nil
	})
}

func (c *checker) checkEnvs() error {
	refs := c.tx.Bucket(bucketEnvRefs)
	for _, name := range [][]byte{bucketEnvs, bucketEnvRefs} {
		_ = c.tx.Bucket(name).ForEach(func(k, _ []byte) error { // the function returns no error
			if c.envs[string(k)] == 0 {
				c.wrong(0, "bucket %s has %x, which no task uses", name, k)
			}
			return nil
		})
	}
	for h, n := range c.envs {
		if got := envRefs(refs, []byte(h)); got != n {
			c.wrong(0, "environment %x is counted %d times and used %d times", h, got, n)
		}
	}
	return nil
}

// checkBlobs: what is stored beside a task belongs to one, and is whole.
func (c *checker) checkBlobs() error {
	for _, name := range [][]byte{bucketStatus, bucketPayloads, bucketResults} {
		err := c.tx.Bucket(name).ForEach(func(k, v []byte) error {
			if _, ok := c.tasks[keySeq(k)]; !ok {
				c.wrong(keySeq(k), "has a record in bucket %s, and does not exist", name)
			}
			if bytes.Equal(name, bucketStatus) {
				return nil // read with its task
			}
			if _, err := open(name, k, v, formatBytes); err != nil {
				c.found = append(c.found, err)
			}
			return c.ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkIDs looks every task and tombstone up by its id.
func (c *checker) checkIDs() error {
	recent := recentIDs{}
	damaged := func(_ task.Seq, err error) bool { return errors.Is(err, task.ErrDamaged) }
	if err := recent.load(c.tx, damaged); err != nil {
		return err
	}
	runs := readRuns(c.tx)
	for i, r := range runs {
		if len(r)%idPair != 0 {
			c.wrong(0, "id run %d has %d bytes", i, len(r))
		}
		for j := 1; j < r.len(); j++ {
			if r.hash(j) < r.hash(j-1) {
				c.wrong(0, "id run %d is out of order at %d", i, j)
				break
			}
		}
	}
	lookup := func(id string, seq task.Seq) {
		h := hashID(id)
		got, err := verifyID(c.tx, id, func(yield func(task.Seq) bool) {
			for s := range recent.find(h) {
				if !yield(s) {
					return
				}
			}
			findInRuns(runs, h, yield)
		})
		if err != nil || got.seq != seq {
			c.wrong(seq, "has id %s, which leads to task %d (%v)", id, got.seq, err)
		}
	}
	for seq, t := range c.tasks {
		lookup(t.id, seq)
	}
	return c.tx.Bucket(bucketTombs).ForEach(func(k, v []byte) error {
		if f, err := readFinal(k, v); err == nil {
			lookup(f.ID, f.Seq)
		}
		return c.ctx.Err()
	})
}

func (c *checker) checkEvents() error {
	b := c.tx.Bucket(bucketEvents)
	var last, fence uint64
	err := b.ForEach(func(k, v []byte) error {
		r, err := readEvent(k, v)
		if err != nil {
			c.found = append(c.found, err)
			last = 0 // retention goes on behind what it cannot read
			return c.ctx.Err()
		}
		if last != 0 && r.Index != last+1 {
			c.wrong(0, "the event log goes from %d to %d", last, r.Index)
		}
		last = r.Index
		if r.Fence != 0 && r.Fence < fence { // older releases write none
			c.wrong(0, "event %d was written by owner %d, after one that was written by owner %d", r.Index, r.Fence, fence)
		}
		fence = max(fence, r.Fence)
		return c.ctx.Err()
	})
	if last != 0 && last != b.Sequence() {
		c.wrong(0, "the event log ends at %d and is said to end at %d", last, b.Sequence())
	}
	if now := metaNumber(c.tx.Bucket(bucketMeta), metaFence); fence > now {
		c.wrong(0, "the event log has owner %d, and %d is said to be the latest", fence, now)
	}
	for seq := range c.tasks {
		if uint64(seq) > c.tx.Bucket(bucketSpecs).Sequence() {
			c.wrong(seq, "is beyond the highest number given out")
		}
	}
	return err
}
