package queue_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dspy-agent/dspy-agent/queue"
)

// backupOf makes a backup of a queue with tasks of all kinds.
func backupOf(t *testing.T, dir string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "backup.db")
	if _, _, err := queue.Backup(context.Background(), queue.Options{Dir: dir}, file, nil); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestRestoreBesideSubmit: a queue that somebody makes where one is about to be restored
// is a queue, and is neither replaced unasked nor removed.
func TestRestoreBesideSubmit(t *testing.T) {
	t.Parallel()
	file := backupOf(t, mixedQueue(t))
	for what, c := range map[string]struct{ begun, replace bool }{
		"nothing was there":               {},
		"a restoration was cut short":     {begun: true},
		"nothing was there, to be forced": {replace: true},
		"one was cut short, to be forced": {begun: true, replace: true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if c.begun {
				if err := os.WriteFile(dbPath(dir), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			looks := 0
			opts := queue.Options{Dir: dir}.OnApproach(func() {
				if looks++; looks == 2 { // after it was seen that there is no queue
					q := openQueue(t, queue.Options{Dir: dir})
					submit(t, q, spec("accepted"))
					closeQueue(t, q)
				}
			})
			r, err := queue.Restore(context.Background(), opts, file, queue.RestoreOptions{Replace: c.replace}, nil)
			if looks < 2 {
				t.Fatal("nothing was submitted")
			}
			if c.replace {
				if err != nil || r.Former != dbPath(dir) {
					t.Errorf("restored %+v (%v)", r, err)
				}
				if _, err := os.Stat(dbPath(dir)); err != nil {
					t.Errorf("what was there is gone: %v", err)
				}
				return
			}
			if !errors.Is(err, queue.ErrNotEmpty) {
				t.Errorf("restored %+v over a queue: %v", r, err)
			}
			q := openQueue(t, queue.Options{Dir: dir})
			if _, err := q.Lookup("accepted"); err != nil {
				t.Errorf("what was accepted is gone: %v", err)
			}
			closeQueue(t, q)
		})
	}
}
