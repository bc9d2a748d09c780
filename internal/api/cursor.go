package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// chunk is how many records are read at once. Reading is over before sending
// begins, so a slow reader holds no transaction open.
const chunk = 256

// errGap is the cause of the error when records are gone that were still to be read.
var errGap = errors.New("the event log no longer has what comes next")

func isGap(err error) bool { return errors.Is(err, errGap) }

// cursor walks the event log.
type cursor struct {
	log Log
	at  uint64 // the index of the last record that was read; 0 = start at the oldest there is
}

// resume returns a cursor behind a place that a caller remembered. A place that
// the log has not reached belongs to another queue; waiting for it would wait
// for ever.
func resume(log Log, after uint64) (cursor, error) {
	if last := log.LastIndex(); after > last {
		return cursor{}, task.Errorf(task.CodeInvalid,
			"after_index is %d, but the event log ends at %d: the index comes from another queue", after, last)
	}
	return cursor{log: log, at: after}, nil
}

// next returns the records that follow, at most chunk of them, and waits while
// there are none.
func (c *cursor) next(ctx context.Context) ([]task.Record, error) {
	for {
		records, err := c.ready()
		if err != nil || len(records) > 0 {
			return records, err
		}
		if err := c.log.WaitRecords(ctx, c.at); err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			return nil, fmt.Errorf("wait for the event log: %w", err)
		}
	}
}

// ready returns the records that follow and are there already.
func (c *cursor) ready() ([]task.Record, error) {
	last := c.log.LastIndex() // first: what is committed from here on is no gap
	records, err := readSome(c.log, c.at+1, chunk)
	if err != nil {
		return nil, err
	}
	first := last + 1 // where the log goes on, if there is nothing in it
	if len(records) > 0 {
		first = records[0].Index
	}
	if c.at != 0 && first > c.at+1 {
		return nil, task.Errorf(task.CodeConflict,
			"%w: it begins at index %d, and index %d was asked for; start again at after_index %d, and look at the tasks themselves for what lies between",
			errGap, first, c.at+1, first-1)
	}
	c.at = max(c.at, first-1)
	if len(records) > 0 {
		c.at = records[len(records)-1].Index
	}
	return records, nil
}
