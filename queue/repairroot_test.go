package queue_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/queue"
)

// TestRepairOfAnOlderRoot: where the page is gone from which everything is found, an older one
// may be all there is. What was written after it is in the file, but nothing leads there: it is
// found all the same, or named.
func TestRepairOfAnOlderRoot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir, Now: newClock().now})
	const before, stages = 30, 4
	for i := range before {
		submit(t, q, spec(fmt.Sprintf("early-%d", i)))
	}
	lossless := 0
	for stage := range stages {
		submit(t, q, spec(fmt.Sprintf("late-%d", stage)))
		copied := filepath.Join(t.TempDir(), "copy")
		if err := errors.Join(os.Mkdir(copied, 0o700), copyFile(dbPath(dir), dbPath(copied))); err != nil {
			t.Fatal(err)
		}
		clearRoot(t, dbPath(copied))
		r, err := queue.Repair(context.Background(), queue.Options{Dir: copied}, nil)
		if err != nil {
			t.Fatal(err)
		}
		named := 0
		for _, f := range r.Findings {
			if f.Kind == queue.FoundTask && !f.Above && f.Last == 0 {
				named++
			}
		}
		if r.Tasks+named < before+stage+1 {
			t.Errorf("stage %d: of %d tasks %d are there and %d named: %v", stage, before+stage+1, r.Tasks, named, r.Findings)
		}
		if r.Tasks == before+stage+1 {
			lossless++
		}
		verifySound(t, copied)
	}
	if lossless == 0 {
		t.Error("what the pages still held was never found")
	}
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

// clearRoot makes nothing of the page that leads to all buckets as they are now. No list of free
// pages is left, which could tell that what an older root leads to was given up.
func clearRoot(t *testing.T, path string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	var heads [][]byte // of buckets that change with every task, as the root and the pages below it have them
	root := make([]byte, 8)
	err = errors.Join(db.Update(func(*bolt.Tx) error { return nil }), db.View(func(tx *bolt.Tx) error {
		binary.NativeEndian.PutUint64(root, uint64(tx.Cursor().Bucket().Root()))
		return tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
			head := binary.NativeEndian.AppendUint64(nil, uint64(b.Root()))
			if b.Sequence() > 0 && b.Root() > 0 {
				heads = append(heads, binary.NativeEndian.AppendUint64(head, b.Sequence()))
			}
			return nil
		})
	}))
	size := db.Info().PageSize
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for page := range slices.Chunk(text, size) {
		if bytes.HasPrefix(page, root) || slices.ContainsFunc(heads, func(head []byte) bool { return bytes.Contains(page, head) }) {
			clear(page)
		}
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
