package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// openToSpoil opens a queue that is not checked at the end.
func openToSpoil(t *testing.T) *Queue {
	t.Helper()
	q, err := Open(context.Background(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

// damagedBy says whether an error is about a damaged file, for a reason.
func damagedBy(err error, reason string) bool {
	bad, ok := errors.AsType[*DamagedFileError](err)
	return ok && errors.Is(err, ErrDamagedFile) && strings.Contains(bad.Reason, reason)
}

// TestMistakesAreNotDamage: what goes wrong in the program is seen as that, and the
// queue goes on.
func TestMistakesAreNotDamage(t *testing.T) {
	t.Parallel()
	q := openToSpoil(t)
	var none *task.Spec
	var list []int
	for name, mistake := range map[string]func(*bolt.Tx) error{
		"a panic":  func(*bolt.Tx) error { panic("a mistake") },
		"an error": func(*bolt.Tx) error { panic(errors.New("a mistake")) },
		"nil":      func(*bolt.Tx) error { return errors.New(none.ID) },
		"an index": func(*bolt.Tx) error { return fmt.Errorf("%d", list[len(list)+3]) },
		"in a callee": func(tx *bolt.Tx) error {
			return tx.Bucket(bucketMeta).ForEach(func(_, _ []byte) error { panic("a mistake") })
		},
	} {
		for _, edge := range []func(func(*bolt.Tx) error) error{q.view, q.update} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s is swallowed", name)
					}
				}()
				t.Errorf("%s ends in an error: %v", name, edge(mistake))
			}()
		}
	}
	if err := q.Err(); err != nil {
		t.Fatalf("a mistake is taken for damage: %v", err)
	}
	if _, err := q.Submit(context.Background(), []*task.Spec{trueSpec("a")}); err != nil {
		t.Errorf("it does not go on: %v", err)
	}
}

// TestDamageIsCaught: what bbolt or the kernel says of a damaged file becomes an
// error, and so does everything from then on.
func TestDamageIsCaught(t *testing.T) {
	t.Parallel()
	page := os.Getpagesize()
	gone, err := unix.Mmap(-1, 0, page, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(gone) }()
	for name, c := range map[string]struct {
		meet func(*bolt.Tx) error
		says string
	}{
		"no access":     {func(*bolt.Tx) error { return fmt.Errorf("%d", *(*byte)(unsafe.Pointer(&gone[7]))) }, "cannot be read"},
		"within bbolt":  {func(tx *bolt.Tx) error { return tx.Commit() }, "do not make sense"}, // a View must not
		"a bucket":      {func(tx *bolt.Tx) error { return tx.Bucket([]byte("nothing")).Put(nil, nil) }, "do not make sense"},
		"a key":         {func(*bolt.Tx) error { return fmt.Errorf("%d", keySeq([]byte("short"))) }, "a key of 5 bytes"},
		"a longer key":  {func(*bolt.Tx) error { return fmt.Errorf("%v", keySpot(make([]byte, 21))) }, "a key of 21 bytes"},
		"a time's key":  {func(*bolt.Tx) error { _, seq := keyTimeSeq(make([]byte, 8)); return fmt.Errorf("%d", seq) }, "a key of 8 bytes"},
		"a run's value": {func(tx *bolt.Tx) error { return fmt.Errorf("%d", getRun(tx.Bucket(bucketIDs), []byte("k")).len()) }, "not a bucket"},
	} {
		q := openToSpoil(t)
		if name == "within bbolt" { // its Tx of a View panics when it is committed
			c.meet = func(*bolt.Tx) error { return q.db.View(func(tx *bolt.Tx) error { return tx.Commit() }) }
		}
		err := q.view(c.meet)
		if !damagedBy(err, c.says) {
			t.Errorf("%s: %v", name, err)
		}
		select {
		case <-q.Damage():
		default:
			t.Errorf("%s: nobody is told", name)
		}
		_, got := q.Get(1)
		_, submitted := q.Submit(context.Background(), []*task.Spec{trueSpec("a")})
		for _, later := range []error{got, submitted, q.Err(), q.update(c.meet)} {
			if later == nil || later.Error() != err.Error() {
				t.Errorf("%s: and then %v", name, later)
			}
		}
	}
}

// TestRequestMeetsDamage: a request of the writer that meets it fails, and so do
// those that share its transaction.
func TestRequestMeetsDamage(t *testing.T) {
	t.Parallel()
	q := openToSpoil(t)
	err := q.write(context.Background(), 1, func(b *batch) error { return b.bucket([]byte("nothing")).Put(nil, nil) })
	if !damagedBy(err, "bucket nothing is gone") {
		t.Errorf("the request ends with %v", err)
	}
}

// TestOlderStateIsNotTaken: bbolt goes back to the state before the last commit when
// the meta page of that is damaged. Those that were answered since would be lost.
func TestOlderStateIsNotTaken(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(q *Queue) error{
		"reading": func(q *Queue) error { _, err := q.Get(1); return err },
		"writing": func(q *Queue) error {
			_, err := q.Submit(context.Background(), []*task.Spec{trueSpec("b")})
			return err
		},
	} {
		q := openToSpoil(t)
		if _, err := q.Submit(context.Background(), []*task.Spec{trueSpec("a")}); err != nil {
			t.Fatal(err)
		}
		change(t, q.path, func(b []byte) {
			first, second := b[pageHead:], b[q.meta.page+pageHead:]
			if native.Uint64(second[48:]) > native.Uint64(first[48:]) {
				first = second
			}
			first[60] ^= 1
		})
		if err := next(q); !damagedBy(err, "came back") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestListOfFreePagesIsReplaced: bbolt gives back the pages of its old list without a
// look at what is there.
func TestListOfFreePagesIsReplaced(t *testing.T) {
	t.Parallel()
	q := openToSpoil(t)
	if _, err := q.Submit(context.Background(), []*task.Spec{trueSpec("a")}); err != nil {
		t.Fatal(err)
	}
	m, ok := readMeta(q.file)
	if !ok || m.freelist == noFreelist {
		t.Fatalf("no list of free pages in %+v", m)
	}
	change(t, q.path, func(b []byte) {
		b[m.freelist*uint64(m.page)] ^= 1
	})
	_, err := q.Submit(context.Background(), []*task.Spec{trueSpec("b")})
	if !damagedBy(err, "not a list of free pages") {
		t.Errorf("a commit says %v", err)
	}
}

// change changes the bytes of a file in place.
func change(t *testing.T, path string, f func([]byte)) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f(b)
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteAt(b, 0)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestNumbersAreNotGivenOutTwice: the sequence of a bucket is not protected, and a
// task that got the number of another would replace it.
func TestNumbersAreNotGivenOutTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, err := Open(context.Background(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := q.Submit(context.Background(), []*task.Spec{trueSpec(fmt.Sprint("t", i))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(q.update(func(tx *bolt.Tx) error { return tx.Bucket(bucketSpecs).SetSequence(2) }), q.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), Options{Dir: dir})
	if !damagedBy(err, "has number 3") {
		t.Errorf("open: %v", err)
	}
}

// TestDueForEver: a key of the index of what is due, or of what has ended, that leads
// to nothing goes, instead of being due for ever.
func TestDueForEver(t *testing.T) {
	t.Parallel()
	q := openToSpoil(t)
	now := task.Instant(1 << 60)
	err := q.update(func(tx *bolt.Tx) error {
		return errors.Join(tx.Bucket(bucketTimers).Put(timeSeqKey(1, 77), nil), tx.Bucket(bucketEnded).Put(timeSeqKey(1, 77), []byte{byte(task.Failed)}))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, more, err := q.Advance(context.Background(), now); more || err != nil {
		t.Errorf("after one call there is more: %v, %v", more, err)
	}
	for range 2 {
		if _, more, err := q.Expire(context.Background(), now); more || err != nil {
			t.Errorf("retention: more %v, %v", more, err)
		}
	}
	if n := len(q.Damaged()); n != 2 {
		t.Errorf("%d are told: %+v", n, q.Damaged())
	}
	if err := q.Check(context.Background()); err != nil {
		t.Errorf("check: %v", err)
	}
}

// TestPagesAreLookedAt: a change of any number that leads from one page to another, or
// into one, is found.
func TestPagesAreLookedAt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, err := Open(context.Background(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		if _, err := q.Submit(context.Background(), []*task.Spec{trueSpec(fmt.Sprint("t", i))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, firstGeneration))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "db")
	look := func(b []byte, wholeBytes int64) error {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return inspect(f, wholeBytes)
	}
	m, _ := parseMeta(whole)
	if second, ok := parseMeta(whole[m.page:]); ok && second.tx > m.tx {
		m = second
	}
	free := freePages(whole, m)
	found := map[uint16]int{}
	for id := uint64(2); id < m.high; id++ {
		if free[id] {
			continue
		}
		p := parsePage(whole[int(id)*m.page:][:m.page])
		for _, at := range []int{0, 8, 10, 12} { // its own number, what it is, how much it has, where it goes on
			b := append([]byte(nil), whole[:int(m.high)*m.page]...)
			b[int(id)*m.page+at] ^= 1
			if err := look(b, 1<<40); err == nil {
				t.Errorf("page %d (flags %#x) was changed at %d, and is said to be whole", id, p.flags, at)
			}
			if err := look(b, 1); err == nil && p.flags != flagLeaf {
				t.Errorf("page %d (flags %#x) was changed at %d, and is passed over", id, p.flags, at)
			}
		}
		found[p.flags]++
		id += uint64(binary.NativeEndian.Uint32(p.data[12:])) // behind it is what did not fit
	}
	if found[flagLeaf] == 0 || found[flagBranch] == 0 || found[flagFree] != 1 {
		t.Errorf("there was nothing to look at: %v", found)
	}
	for _, wholeBytes := range []int64{1, 1 << 40} {
		if err := look(whole, wholeBytes); err != nil {
			t.Errorf("nothing was changed: %v", err)
		}
	}
}

func freePages(b []byte, m meta) map[uint64]bool {
	out := map[uint64]bool{}
	at := int(m.freelist) * m.page
	for i := range int(binary.NativeEndian.Uint16(b[at+10:])) {
		out[binary.NativeEndian.Uint64(b[at+pageHead+8*i:])] = true
	}
	return out
}
