package queue_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/queue"
)

// TestRepairWithoutHead: of a file of which the beginning is gone, where it says where
// everything is, verify tells, and repair saves the tasks; and there is something of a queue in
// the folder, whatever it is that cannot be read.
func TestRepairWithoutHead(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(text []byte){
		"zeroed":          func(text []byte) { clear(text[:8192]) },
		"another version": func(text []byte) { text[20], text[4096+20] = 9, 9 },
		"junk":            func(text []byte) { copy(text, strings.Repeat("junk", 2048)) },
	} {
		dir := t.TempDir()
		q := openQueue(t, queue.Options{Dir: dir})
		submit(t, q, spec("a"), spec("b"))
		closeQueue(t, q)
		text, err := os.ReadFile(dbPath(dir))
		if err != nil {
			t.Fatal(err)
		}
		spoil(text)
		if err := os.WriteFile(dbPath(dir), text, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := queue.Verify(context.Background(), queue.Options{Dir: dir}, nil)
		if err != nil || v.Sound() {
			t.Errorf("%s: verify: %v, %v", name, v.Findings, err)
		}
		r, err := queue.Repair(context.Background(), queue.Options{Dir: dir}, nil)
		if err != nil || r.Tasks != 2 || r.Held != 2 {
			t.Errorf("%s: repair: %+v, %v", name, r, err)
		}
		verifySound(t, dir)
		if err := os.Remove(filepath.Join(dir, "CURRENT")); err != nil || !queue.Present(dir) {
			t.Errorf("%s: without CURRENT nothing of a queue is there (%v)", name, err)
		}
	}
	if queue.Present(t.TempDir()) {
		t.Error("a queue is in an empty folder")
	}
}
