package queue_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// TestFolderOfOthers: a queue in which others could put tasks is not opened to run them.
func TestFolderOfOthers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
	refused := func(word string) {
		t.Helper()
		_, opened := queue.Open(ctx, queue.Options{Dir: dir})
		_, repaired := queue.Repair(ctx, queue.Options{Dir: dir}, nil)
		for _, err := range []error{opened, repaired} {
			if task.CodeOf(err) != task.CodeConflict {
				t.Fatalf("it is used: %v", err)
			}
			if msg := err.Error(); !strings.Contains(msg, word) {
				t.Errorf("it says %q", msg)
			}
		}
	}
	for _, mode := range []os.FileMode{0o777, 0o775, os.ModeSticky | 0o757} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		refused("chmod go-w " + dir)
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // others may read it
		t.Fatal(err)
	}
	closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
	if os.Geteuid() != 0 {
		t.Skip("giving a folder away takes root: run the tests as root")
	}
	if err := os.Chown(dir, 12345, -1); err != nil {
		t.Fatal(err)
	}
	refused("belongs to uid 12345")
}

// TestRemovedWhileOpen: who has a queue that was removed says so at once, and acknowledges
// nothing more.
func TestRemovedWhileOpen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "queue")
	q, err := queue.Open(t.Context(), queue.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	submit(t, q, spec("a"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	answers, err := q.Submit(t.Context(), []*task.Spec{spec("b")})
	if err == nil && len(answers) == 1 {
		err = answers[0].Err
	}
	if !errors.Is(err, queue.ErrUnlinked) || errors.Is(err, queue.ErrDeposed) {
		t.Errorf("a submission is answered with %v", err)
	}
	select {
	case <-q.Deposed():
	default:
		t.Error("its owner is not told")
	}
	if err := q.Close(); err != nil && !errors.Is(err, queue.ErrUnlinked) {
		t.Errorf("closed: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("closing it made the folder again: %v", err)
	}
}
