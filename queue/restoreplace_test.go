package queue_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
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

// databases are what is called like one in a folder.
func databases(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "queue-*.db"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// damagedBackup is a file that is not restored unless that is what is wanted.
func damagedBackup(t *testing.T) (file string) {
	t.Helper()
	dir := mixedQueue(t)
	spoilRecord(t, dir, "mixed-007")
	return dbPath(dir)
}

// TestRefusedRestore leaves nothing behind, and whoever had waited for it makes a queue
// that others find.
func TestRefusedRestore(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "new")
	opened := make(chan error, 1)
	begun := false
	now := func() time.Time { // it is asked for under the lock
		if begun {
			return time.Now()
		}
		begun = true
		go func() {
			q, err := queue.Open(ctx, queue.Options{Dir: dir, LockTimeout: hangsAfter})
			if err == nil {
				_, err = q.Submit(ctx, []*task.Spec{spec("accepted")})
				err = errors.Join(err, q.Close())
			}
			opened <- err
		}()
		eventually(t, "somebody waits for the place", func() bool { return openFiles(dbPath(dir)) == 2 })
		return time.Now()
	}
	if _, err := queue.Restore(ctx, queue.Options{Dir: dir, Now: now}, damagedBackup(t), queue.RestoreOptions{}, nil); !errors.Is(err, queue.ErrDamagedBackup) {
		t.Fatalf("restored: %v", err)
	}
	if !begun {
		t.Fatal("nobody has waited")
	}
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	q := openQueue(t, queue.Options{Dir: dir})
	if _, err := q.Lookup("accepted"); err != nil {
		t.Error(err)
	}
	closeQueue(t, q)
}

// openFiles is how many open files of this process are the one at path.
func openFiles(path string) (n int) {
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && to == path {
			n++
		}
	}
	return n
}

// TestPlaceIsNoQueue: where a restoration was refused or cut short there is none, for
// those who only look as well.
func TestPlaceIsNoQueue(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "new")
	file := damagedBackup(t)
	for _, replace := range []bool{false, true} {
		if _, err := queue.Restore(ctx, queue.Options{Dir: dir}, file, queue.RestoreOptions{Replace: replace}, nil); !errors.Is(err, queue.ErrDamagedBackup) {
			t.Fatalf("restored: %v", err)
		}
		if left := databases(t, dir); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	if err := os.WriteFile(dbPath(dir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := queue.Open(ctx, queue.Options{Dir: dir, ReadOnly: true}); task.CodeOf(err) != task.CodeNotFound {
		t.Errorf("of an empty file: %v", err)
	}
	if info, err := os.Stat(dbPath(dir)); err != nil || info.Size() != 0 {
		t.Errorf("who reads has changed it: %v", err)
	}
}

// TestRestoreOfLost: where the database in use is gone a backup is restored, as the
// message about it says.
func TestRestoreOfLost(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := mixedQueue(t)
	file, damaged := backupOf(t, dir), damagedBackup(t)
	if err := os.Remove(dbPath(dir)); err != nil {
		t.Fatal(err)
	}
	for _, how := range []queue.RestoreOptions{{}, {Replace: true}} {
		_, err := queue.Restore(ctx, queue.Options{Dir: dir}, damaged, how, nil)
		if how.Replace != errors.Is(err, queue.ErrDamagedBackup) || err == nil {
			t.Errorf("restored a damaged one: %v", err)
		}
		_, err = queue.Open(ctx, queue.Options{Dir: dir})
		if err == nil {
			t.Fatal("opened after it was refused")
		}
		if msg := err.Error(); !strings.Contains(msg, "which is not there") || !strings.Contains(msg, "--force") {
			t.Errorf("after it was refused: %s", msg)
		}
	}
	r, err := queue.Restore(ctx, queue.Options{Dir: dir}, file, queue.RestoreOptions{Replace: true}, nil)
	if err != nil || r.Former != "" {
		t.Fatalf("restored %+v (%v)", r, err)
	}
	if v := verifySound(t, dir); v.Tasks != mixedTasks {
		t.Errorf("there is %+v", v)
	}
	if left := databases(t, dir); len(left) != 1 || left[0] != r.Path {
		t.Errorf("there are %v", left)
	}
}
