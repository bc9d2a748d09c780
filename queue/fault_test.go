package queue_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// smallDisk mounts a file system of a few megabytes.
func smallDisk(t *testing.T, megabytes int) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		if errors.Is(err, unix.EPERM) {
			t.Skip("this container may not mount")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil { // a damaged file stays mapped
			t.Error(err)
		}
	})
	return dir
}

// TestDiskFull fills the disk, sees that nothing is stored by halves, and goes
// on when there is space again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 8)
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(disk, "queue")
	q := openQueue(t, queue.Options{Dir: dir})
	stored, err := fillDisk(t, q)
	if task.CodeOf(err) != task.CodeExhausted || !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("a full disk answers with %v", err)
	}
	for _, part := range []string{dir, "disk is full", "free some space"} {
		if msg := err.Error(); !strings.Contains(msg, part) {
			t.Errorf("%q lacks %q", msg, part)
		}
	}
	if got := q.Counts().Total(task.Pending); got != stored {
		t.Errorf("%d tasks wait, %d were acknowledged", got, stored)
	}
	if err := q.Check(context.Background()); err != nil {
		t.Errorf("after the disk was full: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	got := submit(t, q, spec("after-the-flood"))
	if int(got[0].Seq) != stored+1 {
		t.Errorf("the next task is number %d after %d", got[0].Seq, stored)
	}
}

// fillDisk submits until that fails, and says how many tasks were stored.
func fillDisk(t *testing.T, q *queue.Queue) (stored int, err error) {
	t.Helper()
	payload := []byte(`{"x":"` + strings.Repeat("x", 60<<10) + `"}`)
	for i := range 1000 {
		s := spec(fmt.Sprintf("fill-%d", i))
		s.Payload = payload
		if _, err := q.Submit(context.Background(), []*task.Spec{s}); err != nil {
			return i, err
		}
	}
	t.Fatal("the disk is never full")
	return 0, nil
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := queue.Open(context.Background(), queue.Options{Dir: dir, ReadOnly: true})
	if task.CodeOf(err) != task.CodeNotFound {
		t.Fatalf("reading a queue that is not there: %v", err)
	}
	q := openQueue(t, queue.Options{Dir: dir})
	submit(t, q, spec("a"))
	closeQueue(t, q)
	path := filepath.Join(dir, "queue-000001.db")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	q = openQueue(t, queue.Options{Dir: dir, ReadOnly: true})
	openQueue(t, queue.Options{Dir: dir, ReadOnly: true}) // readers share
	if _, err := q.Lookup("a"); err != nil {
		t.Error(err)
	}
	_, err = q.Submit(context.Background(), []*task.Spec{spec("b")})
	if !errors.Is(err, queue.ErrReadOnly) || task.CodeOf(err) != task.CodeUnavailable {
		t.Errorf("submit: %v", err)
	}
	closeQueue(t, q)
	after, err := os.ReadFile(path)
	if err != nil || string(before) != string(after) {
		t.Errorf("opening for reading changed the database (%v)", err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
	edit(t, dir, func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("version"), []byte{queue.SchemaVersion + 1})
	})
	_, err := queue.Open(context.Background(), queue.Options{Dir: dir})
	if task.CodeOf(err) != task.CodeUnsupported {
		t.Fatalf("open: %v", err)
	}
	if msg := err.Error(); !strings.Contains(msg, "newer release") {
		t.Errorf("it does not say what to do: %s", msg)
	}
}

func TestForeignFileIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "queue-000001.db"), make([]byte, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := queue.Open(context.Background(), queue.Options{Dir: dir})
	if err == nil {
		t.Fatal("a file of zeros was opened")
	}
	if msg := err.Error(); !strings.Contains(msg, "not a queue database") {
		t.Errorf("it does not say what is wrong: %s", msg)
	}
}

// TestDamageIsNamed flips one bit of a record.
func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir})
	tasks := submit(t, q, spec("a"), spec("b"))
	apply(t, q, tasks[0].Seq, placed)
	closeQueue(t, q)
	key := []byte{0, 0, 0, 0, 0, 0, 0, 1}
	edit(t, dir, func(tx *bolt.Tx) error {
		v := append([]byte(nil), tx.Bucket([]byte("status")).Get(key)...)
		v[len(v)-1] ^= 1
		return tx.Bucket([]byte("status")).Put(key, v)
	})
	q, err := queue.Open(context.Background(), queue.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer closeBench(t, q) // its check has to fail
	_, err = q.Get(1)
	var corrupt *queue.CorruptError
	if !errors.As(err, &corrupt) || corrupt.Bucket != "status" || string(corrupt.Key) != string(key) {
		t.Errorf("get: %v", err)
	}
	if err := q.Check(context.Background()); !errors.Is(err, task.ErrDamaged) {
		t.Errorf("check: %v", err)
	}
	// The others are not affected: neither by reading nor in a shared transaction.
	if _, err := q.Get(2); err != nil {
		t.Error(err)
	}
	answers, err := q.Apply(context.Background(), []task.Change{{Seq: 2, Event: task.Event{Kind: task.EventPlaced, Attempt: 1}}})
	if err != nil || answers[0].Err != nil {
		t.Errorf("apply: %v %v", answers, err)
	}
}

// edit changes a database behind the queue's back.
func edit(t *testing.T, dir string, change func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, "queue-000001.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(change); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
