package queue

import (
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// batch is one write transaction and what it will change in memory once it is
// committed. Until then memory stays as it is, so that a batch that fails can
// simply be dropped.
type batch struct {
	q   *Queue
	tx  *bolt.Tx
	now task.Instant // when the batch began

	// tasks are those that the current request looked at. They are stored when
	// the request has run, so that a task that takes several steps in one request
	// is written once.
	tasks map[task.Seq]*entry
	order []task.Seq
	// inserted are new tasks of the current request that are Pending, and before is how
	// many there were when it began; -1 = it was not asked.
	inserted, before int

	lastSeq    task.Seq
	lastIndex  uint64
	counts     counts
	waits      waitCounts
	shapes     shapeChanges
	newIDs     recentIDs
	idsFlushed bool
	runs       []idRun // read when first needed
	runsRead   bool
	envs       map[envHash]int        // how many specs more, or fewer, share it
	paused     map[string]*task.Pause // classes that are paused or, with nil, resumed
	records    []task.Record
	dropped    uint64    // event records up to this one were dropped
	wake       bool      // tell Changed
	gpus       gpuLeases // those of memory as this batch changes them; nil = not at all
}

// entry is a task within a batch: as it is stored, and as it will be.
type entry struct {
	task task.Task
	old  task.Task // meaningless when fresh
	// fresh: the task was submitted by this request and has no place in any index.
	fresh bool
	dirty bool
	woken bool         // it was in timers, and was taken out of there
	at    task.Instant // when the last thing happened to it
	waits []wait       // what it newly waits for
}

func (q *Queue) newBatch() (*batch, error) {
	tx, err := q.begin(true)
	if err != nil {
		return nil, err
	}
	b := &batch{
		q: q, tx: tx, now: task.At(q.opts.Now()),
		tasks: map[task.Seq]*entry{}, before: -1, lastSeq: q.mem.lastSeq, lastIndex: q.mem.lastIndex,
		counts: counts{}, waits: waitCounts{}, shapes: newShapeChanges(), newIDs: recentIDs{}, envs: map[envHash]int{},
	}
	if err := b.flushIDs(); err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return b, nil
}

func (b *batch) bucket(name []byte) *bolt.Bucket {
	bk := b.tx.Bucket(name)
	if bk == nil {
		panic(fileError(fmt.Sprintf("bucket %s is gone", name)))
	}
	if f, ok := fill[string(name)]; ok {
		bk.FillPercent = f
	}
	return bk
}

// entry returns a task, as far as this request has brought it. A task that was
// read has no environment and no long payload: what happens to a task does not
// depend on them, and must not cost what they weigh.
func (b *batch) entry(seq task.Seq) (*entry, error) {
	if e, ok := b.tasks[seq]; ok {
		return e, nil
	}
	t, err := readBrief(b.tx, seq)
	if err != nil {
		return nil, err
	}
	e := &entry{task: t, old: t}
	b.tasks[seq] = e
	b.order = append(b.order, seq)
	return e, nil
}

// commit writes what is written once per batch, and makes everything durable.
func (b *batch) commit() error {
	if err := b.finish(); err != nil {
		return errors.Join(err, b.tx.Rollback())
	}
	b.crashHere("before-commit")
	if err := b.q.storeTx(b.tx); err != nil {
		return err // bbolt has rolled back by itself
	}
	b.crashHere("after-commit")
	return nil
}

func (b *batch) finish() error {
	steps := []struct {
		what string
		do   func() error
	}{
		{"counts", b.storeCounts}, {"shapes", b.settleShapes}, {"environments", b.storeEnvRefs}, {"numbers", b.storeSequences},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("store %s: %w", s.what, err)
		}
	}
	tuneFreelist(b.tx, false)
	return nil
}

// storeSequences keeps the highest numbers given out in the headers of their
// buckets, where they survive the removal of what they were given to.
func (b *batch) storeSequences() error {
	if b.lastSeq != b.q.mem.lastSeq {
		if err := b.bucket(bucketSpecs).SetSequence(uint64(b.lastSeq)); err != nil {
			return err
		}
	}
	if b.lastIndex != b.q.mem.lastIndex {
		return b.bucket(bucketEvents).SetSequence(b.lastIndex)
	}
	return nil
}

// The places where a crash test can die: around every commit, and around the
// commits that carry an event of each kind.
var _ = failpoint.Declare(failpointNames()...)

func failpointNames() []string {
	var names []string
	for _, when := range []string{"before-commit", "after-commit"} {
		names = append(names, "queue/"+when)
		for _, k := range task.EventKinds() {
			names = append(names, "queue/"+k.String()+"/"+when)
		}
	}
	return names
}

func (b *batch) crashHere(when string) {
	if !failpoint.Enabled {
		return
	}
	failpoint.Here("queue/" + when)
	for _, r := range b.records {
		failpoint.Here("queue/" + r.Kind.String() + "/" + when)
	}
}
