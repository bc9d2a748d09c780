package queue_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/dspy-agent/dspy-agent/queue"
)

// TestRebuiltIsMarked: a restored or repaired queue says so until that was dealt with, and
// no other queue does.
func TestRebuiltIsMarked(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := mixedQueue(t)
	rebuilt := func(want bool, forget bool) {
		t.Helper()
		q := openQueue(t, queue.Options{Dir: dir})
		defer closeQueue(t, q)
		if got, err := q.Rebuilt(); err != nil || got != want {
			t.Errorf("rebuilt: %v (%v), want %v", got, err, want)
		}
		if forget {
			if err := q.ForgetRebuilt(); err != nil {
				t.Error(err)
			}
		}
	}
	rebuilt(false, false)
	file, mark := filepath.Join(t.TempDir(), "backup.db"), filepath.Join(dir, "REBUILT")
	if _, _, err := queue.Backup(ctx, queue.Options{Dir: dir}, file, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := queue.Restore(ctx, queue.Options{Dir: dir}, file, queue.RestoreOptions{Replace: true}, nil); err != nil {
		t.Fatal(err)
	}
	rebuilt(true, false)
	rebuilt(true, true)
	rebuilt(false, true) // there is nothing to be forgotten
	if _, err := queue.Repair(ctx, queue.Options{Dir: dir}, nil); err != nil {
		t.Fatal(err)
	}
	rebuilt(true, false)
	if err := os.WriteFile(mark, []byte(`{"queue_id":"another"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	rebuilt(false, false) // a restoration that was cut short has left it
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	rebuilt(true, false) // nobody can tell
}
