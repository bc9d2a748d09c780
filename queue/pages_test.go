package queue_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

func dbPath(dir string) string { return filepath.Join(dir, "queue-000001.db") }

// wantDamaged makes sure that an error names the file, the reason, and what to do.
func wantDamaged(t *testing.T, err error, dir string, words ...string) {
	t.Helper()
	var bad *queue.DamagedFileError
	switch {
	case !errors.Is(err, queue.ErrDamagedFile) || !errors.As(err, &bad) || bad.Path != dbPath(dir) || bad.Reason == "":
		t.Fatalf("the error is %v", err)
	case errors.Is(err, task.ErrDamaged) || task.CodeOf(err) != task.CodeInternal:
		t.Errorf("%v is taken for damage of one task, or for something that passes", err)
	}
	for _, part := range append(words, bad.Path, "Keep a copy of "+dir, "backup", "out of the way to begin anew") {
		if msg := err.Error(); !strings.Contains(msg, part) {
			t.Errorf("%q lacks %q", msg, part)
		}
	}
}

// TestEmptyDatabaseIsRefused: a database that was cut down to nothing is not the
// beginning of a queue, as it would be to bbolt. What the error says to do works.
func TestEmptyDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "queue")
	q := openQueue(t, queue.Options{Dir: dir})
	submit(t, q, spec("a"))
	closeQueue(t, q)
	whole, err := os.ReadFile(dbPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(dbPath(dir), 0); err != nil {
		t.Fatal(err)
	}
	for _, readOnly := range []bool{false, true, false} {
		_, err := queue.Open(context.Background(), queue.Options{Dir: dir, ReadOnly: readOnly})
		wantDamaged(t, err, dir, "it is empty")
	}
	if st, err := os.Stat(dbPath(dir)); err != nil || st.Size() != 0 {
		t.Errorf("it was written to: %v %v", st, err)
	}
	if err := os.Rename(dir, dir+".damaged"); err != nil {
		t.Fatal(err)
	}
	anew := openQueue(t, queue.Options{Dir: dir})
	if n := anew.Counts().Total(task.Pending); n != 0 {
		t.Errorf("the new queue has %d tasks", n)
	}
	closeQueue(t, anew)
	if err := errors.Join(os.RemoveAll(dir), os.Rename(dir+".damaged", dir), os.WriteFile(dbPath(dir), whole, 0o600)); err != nil {
		t.Fatal(err)
	}
	back := openQueue(t, queue.Options{Dir: dir})
	if _, err := back.Lookup("a"); err != nil {
		t.Errorf("after it was put back: %v", err)
	}
}

// TestUnfinishedDatabaseIsMade: where the very first opening was cut short there is an
// empty file as well, and nothing is lost.
func TestUnfinishedDatabaseIsMade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(dbPath(dir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	submit(t, openQueue(t, queue.Options{Dir: dir}), spec("a"))
}

// TestWithoutItsBuckets: pages that are whole, and a queue that is not.
func TestWithoutItsBuckets(t *testing.T) {
	t.Parallel()
	for name, words := range map[string]string{"meta": "there was a queue in it", "ready": "bucket ready is missing", "ids": "bucket ids is missing"} {
		dir := t.TempDir()
		closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
		edit(t, dir, func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte(name)) })
		_, err := queue.Open(context.Background(), queue.Options{Dir: dir})
		wantDamaged(t, err, dir, words)
	}
	dir := t.TempDir()
	closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
	edit(t, dir, func(tx *bolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("id"), []byte("f00")) })
	_, err := queue.Open(context.Background(), queue.Options{Dir: dir})
	wantDamaged(t, err, dir, `the queue's id is "f00"`)
}

// TestCutShort: a file that has become shorter is refused as long as something that
// is in use is missing, and only then.
func TestCutShort(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir})
	fillQueue(t, q, randomIDs, 0, 300)
	closeQueue(t, q)
	used := usedBytes(t, dir)
	for _, size := range []int64{used - 1, used - 4096, used / 2, 3 * 4096, 8192} {
		if err := os.Truncate(dbPath(dir), size); err != nil {
			t.Fatal(err)
		}
		_, err := queue.Open(context.Background(), queue.Options{Dir: dir})
		wantDamaged(t, err, dir, "cut short")
		if _, err := os.Stat(filepath.Join(dir, "owner.json")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("an opening that failed left its owner.json: %v", err)
		}
	}
	for _, size := range []int64{8191, 4096, 100} {
		if err := os.Truncate(dbPath(dir), size); err != nil {
			t.Fatal(err)
		}
		_, err := queue.Open(context.Background(), queue.Options{Dir: dir})
		wantDamaged(t, err, dir)
	}
}

// TestCutOffWhatIsFree: bbolt makes its file larger than it needs.
func TestCutOffWhatIsFree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir})
	fillQueue(t, q, randomIDs, 0, 300)
	closeQueue(t, q)
	if err := os.Truncate(dbPath(dir), usedBytes(t, dir)+77); err != nil {
		t.Fatal(err)
	}
	q = openQueue(t, queue.Options{Dir: dir})
	fillQueue(t, q, randomIDs, 300, 300)
}

// usedBytes returns up to where a database file is in use.
func usedBytes(t *testing.T, dir string) (n int64) {
	t.Helper()
	edit(t, dir, func(*bolt.Tx) error { return nil })
	db, err := bolt.Open(dbPath(dir), 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bolt.Tx) error { n = tx.Size(); return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTakenAwayWhileOpen takes the file away under those who read and write it.
// Everybody gets the same error, Close returns, and the lock is free.
func TestTakenAwayWhileOpen(t *testing.T) {
	t.Parallel()
	cut := func(size int64) func(string) error {
		return func(path string) error { return os.Truncate(path, size) }
	}
	for name, take := range map[string]func(path string) error{
		"cut to nothing": cut(0), "cut to one page": cut(4096), "cut to two pages": cut(8192), "cut to five pages": cut(5 * 4096),
		"both meta pages cleared": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(make([]byte, 8192), 0)
			return errors.Join(err, f.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			takenAwayWhileOpen(t, take)
		})
	}
}

func takenAwayWhileOpen(t *testing.T, take func(path string) error) {
	dir := t.TempDir()
	q, err := queue.Open(context.Background(), queue.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	fillQueue(t, q, randomIDs, 0, 500)
	calls := []func(i int) error{
		func(int) error { _, _, err := q.List(task.Filter{Limit: 500}); return err },
		func(i int) error { _, err := q.Get(task.Seq(1 + i%500)); return err },
		func(int) error { _, err := headsOf(q, 32); return err },
		func(i int) error {
			_, err := q.Submit(context.Background(), benchSpecs(randomIDs, 1000+i, 1))
			return err
		},
	}
	errs := make(chan error, len(calls))
	for _, call := range calls {
		go func() { // ended, and waited for, by the damage
			for i := 0; ; i++ {
				if err := call(i); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	if err := take(dbPath(dir)); err != nil {
		t.Fatal(err)
	}
	<-q.Damage()
	for range calls {
		wantDamaged(t, <-errs, dir)
	}
	wantDamaged(t, q.Err(), dir)
	if err := q.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "owner.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("owner.json is left after closing: %v", err)
	}
	if err := os.Truncate(dbPath(dir), 0); err != nil {
		t.Fatal(err)
	}
	_, err = queue.Open(context.Background(), queue.Options{Dir: dir})
	wantDamaged(t, err, dir, "it is empty")
}
