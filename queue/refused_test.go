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

// fillRest writes a file until there is no room for another byte.
func fillRest(t *testing.T, disk string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(disk, "ballast"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 64<<10))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

// fillWithLongPayloads makes a queue of a few tasks whose payloads take several pages each.
func fillWithLongPayloads(t *testing.T, q *queue.Queue) {
	t.Helper()
	for i := range 5 {
		s := spec(fmt.Sprintf("long-%d", i))
		s.Payload = []byte(`{"x":"` + strings.Repeat("x", 60<<10) + `"}`)
		submit(t, q, s)
	}
}

// TestVerifyOnAFullDisk: bbolt makes its file longer than it needs, and to look at that part
// takes room in a file system in memory. That there is none is no damage.
func TestVerifyOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 8)
	dir := filepath.Join(disk, "queue")
	q := openQueue(t, queue.Options{Dir: dir})
	fillWithLongPayloads(t, q)
	closeQueue(t, q)
	fillRest(t, disk)
	v, err := queue.Verify(context.Background(), queue.Options{Dir: dir}, nil)
	if err != nil || !v.Sound() || v.Tasks != 5 {
		t.Errorf("verify on a full disk: %+v, %v", v, err)
	}
}

// TestHoleOnAFullDisk: a page that the kernel cannot show for lack of room is no damage, and
// a repair is not what helps.
func TestHoleOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 8)
	dir := filepath.Join(disk, "queue")
	q, err := queue.Open(context.Background(), queue.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	fillWithLongPayloads(t, q)
	closeBench(t, q)
	punchPayload(t, dbPath(dir))
	q, err = queue.Open(context.Background(), queue.Options{Dir: dir, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	fillRest(t, disk)
	for seq := task.Seq(1); seq <= 5; seq++ {
		_, err = q.Get(seq)
	}
	if !errors.Is(err, queue.ErrUnreadableFile) || errors.Is(err, queue.ErrDamagedFile) || task.CodeOf(err) != task.CodeExhausted {
		t.Errorf("a hole on a full disk: %v", err)
	}
	if msg := q.Err().Error(); !strings.Contains(msg, "free some space") || strings.Contains(msg, "repair") {
		t.Errorf("the advice is %q", msg)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

// punchPayload gives back a page in the middle of a payload, as a copy does that leaves out
// zeros.
func punchPayload(t *testing.T, path string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		t.Fatal(err)
	}
	page := -1
	err = db.View(func(tx *bolt.Tx) error {
		for id := 2; page < 0; id++ {
			p, err := tx.Page(id)
			if err != nil || p == nil {
				return fmt.Errorf("no payload has a page of its own: %w", err)
			}
			if p.OverflowCount >= 10 && p.Type == "leaf" {
				page = id + 5
			}
			id += p.OverflowCount
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(page)*4096, 4096); err != nil {
		t.Fatal(err)
	}
}
