package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

func TestSecondOpenNamesTheHolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openQueue(t, queue.Options{Dir: dir})
	for _, readOnly := range []bool{false, true} {
		_, err := queue.Open(context.Background(), queue.Options{Dir: dir, LockTimeout: 30 * time.Millisecond, ReadOnly: readOnly})
		if !errors.Is(err, queue.ErrLocked) || task.CodeOf(err) != task.CodeUnavailable {
			t.Fatalf("second open: %v", err)
		}
		var locked *queue.LockedError
		if !errors.As(err, &locked) || locked.Owner == nil || locked.Owner.PID != os.Getpid() {
			t.Fatalf("the holder is not named: %+v", locked)
		}
		if locked.Owner.StartTicks == 0 || locked.Owner.BootID == "" || locked.Owner.Fence != 1 {
			t.Errorf("the holder is not described: %+v", locked.Owner)
		}
		for _, part := range []string{dir, "pid"} {
			if msg := err.Error(); !strings.Contains(msg, part) {
				t.Errorf("%q lacks %q", msg, part)
			}
		}
	}
}

// TestStaleOwnerIsNotTheHolder: owner.json may be left by a daemon that died. Whoever
// has the queue now is named, and not that one.
func TestStaleOwnerIsNotTheHolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
	here, err := host.This()
	if err != nil {
		t.Fatal(err)
	}
	stale := queue.Owner{Host: here.Name, BootID: here.Boot, PID: os.Getpid(), StartTicks: 1} // our pid, of somebody before us
	b, err := json.Marshal(stale)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "owner.json"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	lock, err := os.Open(filepath.Join(dir, "queue-000001.db"))
	if err == nil {
		err = host.LockOpen(lock)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	_, err = queue.Open(context.Background(), queue.Options{Dir: dir, LockTimeout: 30 * time.Millisecond})
	var locked *queue.LockedError
	if !errors.As(err, &locked) || locked.Owner != nil || locked.PID != os.Getpid() {
		t.Fatalf("the holder is %+v: %v", locked, err)
	}
	if msg, want := err.Error(), fmt.Sprintf("in use by pid %d", os.Getpid()); !strings.HasSuffix(msg, want) {
		t.Errorf("%q does not end in %q", msg, want)
	}
}

// TestOpenGivesUpWithItsContext: the wait for the lock can be cut short.
func TestOpenGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openQueue(t, queue.Options{Dir: dir})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := queue.Open(ctx, queue.Options{Dir: dir, LockTimeout: time.Hour}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("open: %v", err)
	}
}

func TestOpenReplacesAStaleOwner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stale, err := json.Marshal(queue.Owner{Host: "elsewhere", PID: 1, Fence: 9})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "owner.json")
	if err := os.WriteFile(path, stale, 0o600); err != nil {
		t.Fatal(err)
	}
	q := openQueue(t, queue.Options{Dir: dir})
	var now queue.Owner
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &now)
	}
	if err != nil || now.PID != os.Getpid() || now.Fence != q.Fence() {
		t.Errorf("owner.json has %+v (%v)", now, err)
	}
	closeQueue(t, q)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("owner.json is left after closing: %v", err)
	}
}

func TestFenceGrowsAndIDStays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := openQueue(t, queue.Options{Dir: dir})
	id, fence := first.ID(), first.Fence()
	if len(id) != 16 {
		t.Errorf("id %q", id)
	}
	closeQueue(t, first)
	second := openQueue(t, queue.Options{Dir: dir})
	if second.ID() != id || second.Fence() <= fence {
		t.Errorf("id %s fence %d, and then %s %d", id, fence, second.ID(), second.Fence())
	}
}

func TestDirectoryIsPrivate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "queue")
	openQueue(t, queue.Options{Dir: dir})
	for name, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "queue-000001.db"): 0o600} {
		st, err := os.Stat(name)
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v %v", name, st.Mode(), err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "CURRENT"))
	if err != nil || string(b) != "queue-000001.db\n" {
		t.Errorf("CURRENT %q %v", b, err)
	}
}

func TestCurrentNamesTheGeneration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir})
	submit(t, q, spec("a"))
	closeQueue(t, q)
	for from, to := range map[string]string{"queue-000001.db": "queue-000002.db"} {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "CURRENT"), []byte(to), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	q = openQueue(t, queue.Options{Dir: dir})
	if _, err := q.Lookup("a"); err != nil {
		t.Error(err)
	}
	closeQueue(t, q)
	if err := os.WriteFile(filepath.Join(dir, "CURRENT"), []byte("../../etc/passwd"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := queue.Open(context.Background(), queue.Options{Dir: dir}); err == nil {
		t.Error("CURRENT may name anything")
	}
}
