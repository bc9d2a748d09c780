package taskid_test

import (
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskid"
)

// TestIDsSort: ids are in the order in which they were made, those of one
// millisecond included, and are fit for tasks.
func TestIDsSort(t *testing.T) {
	var m taskid.Maker
	now := time.UnixMilli(1_700_000_000_000)
	last := ""
	for i := range 1000 {
		id, err := m.Next(now.Add(time.Duration(i/100) * time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		if err := task.ValidateID(id); err != nil || id <= last {
			t.Fatalf("%s after %s: %v", id, last, err)
		}
		last = id
	}
	if _, err := m.Next(time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)); err == nil {
		t.Error("a time that an id cannot hold was accepted")
	}
}
