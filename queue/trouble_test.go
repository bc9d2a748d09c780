package queue_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// TestTroubleOfAnIdleQueue: a queue on a full disk that nobody writes to says so, and
// says that it is over when there is room again, though still nobody writes.
func TestTroubleOfAnIdleQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := smallDisk(t, 8)
		ballast := filepath.Join(disk, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 4<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(disk, "queue")
		q := openQueue(t, queue.Options{Dir: dir})
		if err := q.Trouble(); err != nil {
			t.Fatalf("a queue that works is in trouble: %v", err)
		}
		if _, err := fillDisk(t, q); err == nil {
			t.Fatal("the disk is never full")
		}
		for _, wait := range []time.Duration{0, time.Second, time.Hour} {
			time.Sleep(wait) // in a synctest bubble
			synctest.Wait()
			if err := q.Trouble(); !errors.Is(err, unix.ENOSPC) || task.CodeOf(err) != task.CodeExhausted {
				t.Fatalf("after %s of a full disk the trouble is %v", wait, err)
			}
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // in a synctest bubble
		synctest.Wait()
		if err := q.Trouble(); err != nil {
			t.Errorf("there is room, and the trouble is still %v", err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, ".trial*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

// TestTroubleEndsWithACommit: nobody has to wait for the writer's own attempt.
func TestTroubleEndsWithACommit(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 8)
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	q := openQueue(t, queue.Options{Dir: filepath.Join(disk, "queue")})
	if _, err := fillDisk(t, q); err == nil || q.Trouble() == nil {
		t.Fatalf("a full disk is no trouble: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	submit(t, q, spec("a"))
	if err := q.Trouble(); err != nil {
		t.Errorf("after a task was stored: %v", err)
	}
}

// TestLeftoversAreRemoved: what a crash left beside the database goes when the queue
// is opened for writing, and nothing else does.
func TestLeftoversAreRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	leftovers := []string{".CURRENT.123", ".owner.json.9", ".trial.77", ".verify.db.1", ".copy.5", ".try-open.8", ".try-open.8.renamed"}
	others := []string{".CURRENT.mine", "owner.json.9", ".notes.1", ".trial."}
	for _, name := range append(leftovers, others...) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".trial.5"), 0o700); err != nil {
		t.Fatal(err)
	}
	closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
	for _, name := range leftovers {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	for _, name := range append(others, ".trial.5") {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Errorf("%s is not ours, and is gone: %v", name, err)
		}
	}
}
