package api

import (
	"context"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// sparseLog has a record every second from a beginning on; some of them are ends.
type sparseLog struct {
	first, last uint64
	began       task.Instant
	ends        map[uint64]task.Seq
	read        int // records that were handed out
}

func (l *sparseLog) at(index uint64) task.Instant {
	return l.began.Add(time.Duration(index) * time.Second)
}

func (l *sparseLog) LastIndex() uint64 { return l.last }

func (l *sparseLog) WaitRecords(context.Context, uint64) error {
	panic("nobody waits for what is past")
}

func (l *sparseLog) Records(from uint64, limit int) (out []task.Record, err error) {
	for i := max(from, l.first); i <= l.last && len(out) < limit; i++ {
		r := task.Record{Index: i, At: l.at(i), Kind: task.EventStarted}
		if seq, ok := l.ends[i]; ok {
			r.Seq, r.Kind, r.Attempt, r.To = seq, task.EventExited, 1, task.Failed
		}
		out = append(out, r)
		l.read++
	}
	return out, nil
}

// TestEndsAreFoundWithoutReadingTheLog looks for ends in a log of a million.
func TestEndsAreFoundWithoutReadingTheLog(t *testing.T) {
	began := task.At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	log := &sparseLog{first: 1_000_001, last: 2_000_000, began: began, ends: map[uint64]task.Seq{1_000_001: 7, 1_500_000: 8, 2_000_000: 9}}
	at := func(index uint64) task.Instant { return log.at(index) }
	tasks := &chosen{until: log.last, bySeq: map[task.Seq]*chosenTask{
		7:  {attempt: 1, endedAt: at(1_000_001)},
		8:  {attempt: 1, endedAt: at(1_500_000 - 1000)}, // reported late
		9:  {final: &task.Final{}, endedAt: at(2_000_000)},
		10: {attempt: 1, endedAt: at(500_000)}, // its record is gone
		11: {attempt: 1},                       // has not ended
	}}
	found, err := findEnds(log, tasks)
	kept := found.kept
	if err != nil || len(kept) != 3 || kept[7].Index != 1_000_001 || kept[8].Index != 1_500_000 || kept[9].Index != 2_000_000 || len(found.blank) != 0 {
		t.Errorf("found %v, %v", found, err)
	}
	if log.read > 10_000 {
		t.Errorf("%d records were read", log.read)
	}
	// One that was reported very late is found all the same.
	tasks = &chosen{until: log.last, bySeq: map[task.Seq]*chosenTask{8: {attempt: 1, endedAt: at(1_000_002)}}}
	if found, err = findEnds(log, tasks); err != nil || found.kept[8].Index != 1_500_000 {
		t.Errorf("found %v, %v", found, err)
	}
}
