package queue

import (
	"hash/fnv"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// writeMeta writes one of the two pages from which everything is found, as a commit does
// that is seen halfway.
func writeMeta(t *testing.T, f *os.File, page int, tx uint64) {
	t.Helper()
	b := make([]byte, pageHead+metaSize)
	m := b[pageHead:]
	native.PutUint32(m, metaMagic)
	native.PutUint32(m[4:], metaFormat)
	native.PutUint32(m[8:], uint32(page))
	native.PutUint64(m[48:], tx)
	sum := fnv.New64a()
	_, _ = sum.Write(m[:metaSize-8])
	native.PutUint64(m[56:], sum.Sum64()+1)
	at := int64(tx%2) * int64(page)
	if _, err := f.WriteAt(b, at); err != nil {
		t.Error(err)
	}
	native.PutUint64(m[56:], sum.Sum64())
	if _, err := f.WriteAt(b, at); err != nil {
		t.Error(err)
	}
}

// TestMetaPagesUnderFastCommits: where a commit takes no longer than a look, as in memory,
// nobody takes what a reader missed for damage.
func TestMetaPagesUnderFastCommits(t *testing.T) {
	t.Parallel()
	const page = 4096
	f, err := os.Create(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(2 * page); err != nil {
		t.Fatal(err)
	}
	var last atomic.Uint64
	commit := func() {
		writeMeta(t, f, page, last.Load()+1)
		last.Add(1)
	}
	commit()
	commit()
	var p metaPages
	if err := p.open(f, page); err != nil {
		t.Fatal(err)
	}
	defer p.close()
	end := time.Now().Add(500 * time.Millisecond)
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					t.Errorf("after %d commits: %v", last.Load(), p)
				}
			}()
			for time.Now().Before(end) && !t.Failed() {
				at := last.Load()
				if m, open := p.newest(at); !open || m.tx < at {
					t.Errorf("commit %d is said to be the newest, open %v", m.tx, open)
				}
			}
		})
	}
	for time.Now().Before(end) {
		commit()
	}
	readers.Wait()
}

// TestMetaPagesThatWentBack: what really is gone is told all the same.
func TestMetaPagesThatWentBack(t *testing.T) {
	t.Parallel()
	const page = 4096
	f, err := os.Create(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(2 * page); err != nil {
		t.Fatal(err)
	}
	writeMeta(t, f, page, 6)
	var p metaPages
	if err := p.open(f, page); err != nil {
		t.Fatal(err)
	}
	defer p.close()
	defer func() {
		if _, ok := recover().(fileError); !ok {
			t.Error("nobody has noticed that a commit is gone")
		}
	}()
	p.newest(7)
}
