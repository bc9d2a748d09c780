package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// FuzzPages: a file of which inspect finds nothing wrong can be read and written
// by bbolt, without a panic and without end; in values it may say anything.
//
// The input is what is written over a good database: six bytes each, where (four)
// and what (two). The pages that the file begins with get new checksums, or bbolt
// would not go by what was written there.
func FuzzPages(f *testing.F) {
	good := map[string][]byte{"listed": pagesOfFuzz(f, false), "unlisted": pagesOfFuzz(f, true)}
	f.Add(false, []byte{})
	f.Add(true, []byte{})
	for at := uint32(0); at < uint32(len(good["listed"])); at += fuzzPage { // the head of each page
		f.Add(false, patch(at, 3))
		f.Add(true, patch(at+8, flagLeaf))
		f.Add(false, patch(at+10, 2))
		f.Add(true, patch(at+12, 1))
		f.Add(false, patch(at+pageHead+4, 0xffff))
	}
	f.Fuzz(func(t *testing.T, unlisted bool, patches []byte) {
		name := "listed"
		if unlisted {
			name = "unlisted"
		}
		content, whole := bytes.Clone(good[name]), len(patches) == 0
		for ; len(patches) >= 6; patches = patches[6:] {
			at := int(binary.LittleEndian.Uint32(patches)) % (len(content) - 1)
			copy(content[at:], patches[4:6])
		}
		resum(content[:fuzzPage])
		resum(content[fuzzPage : 2*fuzzPage])
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if wrong := inspected(t, path); wrong != nil {
			if whole {
				t.Fatalf("in a good file: %v", wrong)
			}
			if _, ok := errors.AsType[fileError](wrong); !ok {
				t.Fatalf("inspect: %v", wrong)
			}
			return
		}
		if err := useFile(path); err != nil && whole { // else it may refuse, in words
			t.Fatalf("a good file: %v", err)
		}
	})
}

// fuzzPage is the size of a page; small, so that there are many and an input hits
// what matters.
const fuzzPage = 1 << 10

func patch(at uint32, what uint16) []byte {
	return binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint32(nil, at), what)
}

// pagesOfFuzz makes a database with branches, long values, buckets within pages
// and apart, and free pages.
func pagesOfFuzz(f *testing.F, unlisted bool) []byte {
	f.Helper()
	path := filepath.Join(f.TempDir(), "db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{PageSize: fuzzPage, NoFreelistSync: unlisted})
	if err != nil {
		f.Fatal(err)
	}
	for round := range 3 {
		err = errors.Join(err, db.Update(func(tx *bolt.Tx) error {
			for _, name := range []string{"a", "b", "in a page"} {
				b, err := tx.CreateBucketIfNotExists([]byte(name))
				if err != nil {
					return err
				}
				n := 40
				if name == "in a page" {
					n = 3
				}
				for i := range n {
					if err := b.Put(fmt.Appendf(nil, "key %d", i*(round+1)), bytes.Repeat([]byte("v"), 30*(i%4)+round)); err != nil {
						return err
					}
				}
			}
			return tx.Bucket([]byte("a")).Put([]byte("long"), make([]byte, 3000*(3-round)))
		}))
	}
	var used int64
	err = errors.Join(err, db.View(func(tx *bolt.Tx) error { used = tx.Size(); return nil }), db.Close())
	content, readErr := os.ReadFile(path)
	if err := errors.Join(err, readErr); err != nil {
		f.Fatal(err)
	}
	m, ok := parseMeta(content)
	if second, also := parseMeta(content[fuzzPage:]); also && (!ok || second.tx > m.tx) {
		m = second
	}
	return content[:min(max(used, int64(m.high)*fuzzPage), int64(len(content)))]
}

// resum makes the checksum of a meta page right.
func resum(page []byte) {
	b := page[pageHead : pageHead+metaSize]
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaSize-8]) // a hash never fails
	native.PutUint64(b[56:], sum.Sum64())
}

func inspected(t *testing.T, path string) error {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	return inspect(file, maxWhole)
}

// useFile reads all of a database, and writes into every bucket.
func useFile(path string) (err error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType, NoSync: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.Update(func(tx *bolt.Tx) error {
		var names [][]byte
		err := tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			names = append(names, bytes.Clone(name))
			return b.ForEach(func(_, _ []byte) error { return nil })
		})
		for _, name := range names {
			b := tx.Bucket(name)
			k, _ := b.Cursor().First()
			err = errors.Join(err, b.Put([]byte("new"), make([]byte, 2*fuzzPage)), b.Delete(bytes.Clone(k)))
		}
		return err
	})
}
