package queue

import (
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

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
