package queue_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/queue"
)

// TestLostCurrent: which database is in use is not guessed, and no empty or outdated one
// takes the place of the newest.
func TestLostCurrent(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := mixedQueue(t)
	file, current := backupOf(t, dir), filepath.Join(dir, "CURRENT")
	r, err := queue.Restore(ctx, queue.Options{Dir: dir}, file, queue.RestoreOptions{Replace: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string) {
		t.Helper()
		if err := os.Remove(current); err != nil {
			t.Fatal(err)
		}
		before := databases(t, dir)
		for _, only := range []bool{true, false} {
			_, err := queue.Open(ctx, queue.Options{Dir: dir, ReadOnly: only})
			if err == nil {
				t.Fatalf("%s: it was opened", what)
			}
			if msg := err.Error(); !strings.Contains(msg, "that is "+filepath.Base(r.Path)) {
				t.Errorf("%s: %s", what, msg)
			}
		}
		if after := databases(t, dir); len(after) != len(before) {
			t.Errorf("%s: there are %v", what, after)
		}
		if err := os.WriteFile(current, []byte(filepath.Base(r.Path)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused("beside an outdated one")
	if err := os.Remove(dbPath(dir)); err != nil {
		t.Fatal(err)
	}
	refused("with no other")
	if v := verifySound(t, dir); v.Tasks != mixedTasks {
		t.Errorf("there is %+v", v)
	}
}
