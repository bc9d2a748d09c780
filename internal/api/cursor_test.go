package api

import (
	"context"
	"errors"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// fadingLog has the records from first to last; waiting for more ends with the
// context.
type fadingLog struct{ first, last uint64 }

func (l *fadingLog) LastIndex() uint64 { return l.last }

func (l *fadingLog) Records(from uint64, limit int) (out []task.Record, err error) {
	for i := max(from, l.first); i <= l.last && len(out) < limit; i++ {
		out = append(out, task.Record{Index: i, Seq: task.Seq(i)})
	}
	return out, nil
}

func (l *fadingLog) WaitRecords(ctx context.Context, _ uint64) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestCursorReadsInChunks(t *testing.T) {
	c := cursor{log: &fadingLog{first: 1, last: 2*chunk + 1}}
	for _, want := range []int{chunk, chunk, 1} {
		records, err := c.next(t.Context())
		if err != nil || len(records) != want {
			t.Fatalf("got %d records, %v; want %d", len(records), err, want)
		}
	}
	if c.at != 2*chunk+1 {
		t.Errorf("the cursor is at %d", c.at)
	}
}

func TestCursorNeverSkipsSilently(t *testing.T) {
	l := &fadingLog{first: 10, last: 20}
	fromTheOldest := cursor{log: l}
	if records, err := fromTheOldest.next(t.Context()); err != nil || records[0].Index != 10 {
		t.Errorf("got %v, %v", records, err)
	}
	justFits := cursor{log: l, at: 9}
	if _, err := justFits.next(t.Context()); err != nil {
		t.Error(err)
	}
	tooLate := cursor{log: l, at: 8}
	if _, err := tooLate.next(t.Context()); !isGap(err) || task.CodeOf(err) != task.CodeConflict || tooLate.at != 8 {
		t.Errorf("got %v, at %d", err, tooLate.at)
	}
	if _, err := resume(l, 21); task.CodeOf(err) != task.CodeInvalid {
		t.Errorf("beyond the end: %v", err)
	}
}

func TestCursorEndsWithTheCause(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStopping)
	c := cursor{log: &fadingLog{first: 1}}
	if _, err := c.next(ctx); !errors.Is(err, errStopping) {
		t.Errorf("got %v", err)
	}
}
