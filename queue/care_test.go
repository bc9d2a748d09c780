package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// mixedQueue makes a queue with tasks of all kinds, and closes it.
func mixedQueue(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir, Now: newClock().now})
	fillMixed(t, q)
	if _, _, err := q.Pause(context.Background(), "gpu", task.Pause{At: 1, By: "me", Reason: "the card is hot"}); err != nil {
		t.Fatal(err)
	}
	closeQueue(t, q)
	return dir
}

// TestCompact: the new database holds the same, and the old one is gone.
func TestCompact(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir, Retention: queue.Retention{Age: 1, TombstoneAge: 1, EventAge: 1}})
	fill(t, q, 2000, func(int, *task.Spec) {})
	for seq := task.Seq(1); seq <= 1900; seq++ {
		apply(t, q, seq, task.Event{Kind: task.EventCancelled, At: 1})
	}
	for more := true; more; {
		var err error
		if _, more, err = q.Expire(context.Background(), later); err != nil {
			t.Fatal(err)
		}
	}
	id := q.ID()
	closeQueue(t, q)
	want := snapshotOf(t, dir)
	before := verifySound(t, dir)
	got, err := queue.Compact(context.Background(), queue.Options{Dir: dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.After >= got.Before/2 || got.FreePages == 0 {
		t.Errorf("compacted %+v", got)
	}
	if used := got.Before - got.Reserve - int64(got.FreePages*got.PageSize); used < got.After/2 || used > 2*got.After {
		t.Errorf("of %d bytes %d were in use, it is said, and the new database has %d", got.Before, used, got.After)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 2 {
		t.Errorf("in the folder are %v (%v)", left, err)
	}
	after := verifySound(t, dir)
	if after.Holdings != before.Holdings || after.QueueID != id {
		t.Errorf("it holds %+v, and held %+v", after.Holdings, before.Holdings)
	}
	compareTasks(t, want, snapshotOf(t, dir))
	use := openQueue(t, queue.Options{Dir: dir})
	submit(t, use, spec("after"))
	closeQueue(t, use)
}

// TestCareNeedsNoOwner: what replaces the database is refused while somebody owns it.
func TestCareNeedsNoOwner(t *testing.T) {
	t.Parallel()
	dir := mixedQueue(t)
	q := openQueue(t, queue.Options{Dir: dir})
	defer closeQueue(t, q)
	ctx, opts := context.Background(), queue.Options{Dir: dir, LockTimeout: 1}
	_, repair := queue.Repair(ctx, opts, nil)
	_, compact := queue.Compact(ctx, opts, nil)
	_, verify := queue.Verify(ctx, opts, nil)
	_, _, backup := queue.Backup(ctx, opts, filepath.Join(t.TempDir(), "b"), nil)
	for name, err := range map[string]error{"repair": repair, "compact": compact, "verify": verify, "backup": backup} {
		if !errors.Is(err, queue.ErrLocked) {
			t.Errorf("%s: %v", name, err)
		} else if msg := err.Error(); !strings.Contains(msg, fmt.Sprint("pid ", os.Getpid())) {
			t.Errorf("%s does not say who has it: %s", name, msg)
		}
	}
}

// TestCompactRefusesDamage: nothing is lost by it.
func TestCompactRefusesDamage(t *testing.T) {
	t.Parallel()
	dir := mixedQueue(t)
	spoilRecord(t, dir, "mixed-007")
	before, err := os.ReadFile(dbPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	_, refused := queue.Compact(context.Background(), queue.Options{Dir: dir}, nil)
	if !errors.Is(refused, queue.ErrDamagedFile) {
		t.Fatalf("compact: %v", refused)
	}
	if msg := refused.Error(); !strings.Contains(msg, "queue repair") {
		t.Errorf("it does not say what to do: %s", msg)
	}
	after, err := os.ReadFile(dbPath(dir))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the database has changed (%v)", err)
	}
}

// spoilRecord flips a bit behind the first place of the file where the text is.
func spoilRecord(t *testing.T, dir, text string) {
	t.Helper()
	data, err := os.ReadFile(dbPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for at := 0; ; {
		i := bytes.Index(data[at:], []byte(text))
		if i < 0 {
			break
		}
		at += i + len(text)
		data[at-1] ^= 0x40
		n++
	}
	if n == 0 {
		t.Fatalf("%s is nowhere", text)
	}
	if err := os.WriteFile(dbPath(dir), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyNames: what is damaged has a name.
func TestVerifyNames(t *testing.T) {
	t.Parallel()
	dir := mixedQueue(t)
	spoilRecord(t, dir, "ended with exit code 3")
	v, err := queue.Verify(context.Background(), queue.Options{Dir: dir}, nil)
	if err != nil || v.Sound() {
		t.Fatalf("verify found %v (%v)", v.Findings, err)
	}
	named := false
	for _, f := range v.Findings {
		named = named || f.Kind == queue.FoundState && strings.HasPrefix(f.String(), "task mixed-") && f.Seq != 0
	}
	if !named {
		t.Errorf("no task is named: %v", v.Findings)
	}
	// What is lost comes first, and last what a repair makes anew; nothing in the words of Go.
	if kinds := kindsOf(v); kinds[0] != queue.FoundState || kinds[len(kinds)-1] != queue.FoundIndex {
		t.Errorf("it tells of %v", kinds)
	}
	for _, f := range v.Findings {
		if strings.Contains(f.Text, "map[") || strings.Contains(f.Text, "%!") {
			t.Errorf("it says: %s", f)
		}
	}
	q := openQueue(t, queue.Options{Dir: dir, ReadOnly: true})
	if _, _, err := q.List(task.Filter{Limit: 1000}); err != nil {
		t.Fatal(err)
	}
	ids := q.Unreadable()
	if len(ids) == 0 || slices.ContainsFunc(ids, func(id string) bool { return !strings.HasPrefix(id, "mixed-") }) {
		t.Errorf("not to be read, it says, are %v", ids)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

func kindsOf(v queue.Verified) (kinds []queue.FindingKind) {
	for _, f := range v.Findings {
		if len(kinds) == 0 || kinds[len(kinds)-1] != f.Kind {
			kinds = append(kinds, f.Kind)
		}
	}
	return kinds
}

// TestIndexIsMadeAnew: an index that disagrees with the tasks is found, and repaired.
func TestIndexIsMadeAnew(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := mixedQueue(t)
	want := snapshotOf(t, dir)
	db, err := bolt.Open(dbPath(dir), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte("ready")).Cursor()
		c.First()
		return c.Delete()
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	v, err := queue.Verify(ctx, queue.Options{Dir: dir}, nil)
	if err != nil || len(v.Findings) == 0 || v.Findings[0].Kind != queue.FoundIndex || !strings.HasPrefix(v.Findings[0].ID, "mixed-") {
		t.Fatalf("verify found %v (%v)", v.Findings, err)
	}
	if r, err := queue.Repair(ctx, queue.Options{Dir: dir}, nil); err != nil || r.Held != 0 || r.QueueID != v.QueueID {
		t.Errorf("repaired %+v (%v)", r, err)
	}
	verifySound(t, dir)
	compareTasks(t, want, snapshotOf(t, dir))
}

// TestWildNumbers: one wrong bit in a number that has no checksum makes no other harm.
func TestWildNumbers(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	made := mixedQueue(t)
	want := snapshotOf(t, made)
	for name, change := range map[string]func(*bolt.Tx) error{
		"the last event is far away": func(tx *bolt.Tx) error { return tx.Bucket([]byte("events")).SetSequence(1 << 60) },
		"the last event is before":   func(tx *bolt.Tx) error { return tx.Bucket([]byte("events")).SetSequence(3) },
		"the last task is far away":  func(tx *bolt.Tx) error { return tx.Bucket([]byte("specs")).SetSequence(1 << 60) },
		"the last task is before":    func(tx *bolt.Tx) error { return tx.Bucket([]byte("specs")).SetSequence(3) },
		"a far event": func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte("events"))
			_, v := b.Cursor().Last()
			return b.Put([]byte{0x10, 0, 0, 0, 0, 0, 0, 1}, bytes.Clone(v))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "q")
			if err := os.CopyFS(dir, os.DirFS(made)); err != nil {
				t.Fatal(err)
			}
			db, err := bolt.Open(dbPath(dir), 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Update(change), db.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := queue.Repair(ctx, queue.Options{Dir: dir}, nil); err != nil {
				t.Fatal(err)
			}
			verifySound(t, dir)
			compareTasks(t, want, snapshotOf(t, dir))
		})
	}
}

// TestFlippedMeta: a wrong bit in the page that leads to the newest state is found, and
// what was committed last is not lost by the repair.
func TestFlippedMeta(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	made := mixedQueue(t)
	want := snapshotOf(t, made)
	for _, at := range []int64{16 + 48, 4096 + 16 + 48, 16 + 16, 4096 + 16 + 60} {
		dir := filepath.Join(t.TempDir(), "q")
		if err := os.CopyFS(dir, os.DirFS(made)); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(dbPath(dir))
		if err != nil {
			t.Fatal(err)
		}
		data[at] ^= 2
		if err := os.WriteFile(dbPath(dir), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if v, err := queue.Verify(ctx, queue.Options{Dir: dir}, nil); err != nil || v.Sound() {
			t.Errorf("byte %d: verify found nothing (%v)", at, err)
		}
		r, err := queue.Repair(ctx, queue.Options{Dir: dir}, nil)
		if err != nil || r.Held != 0 || r.NewID {
			t.Errorf("byte %d: repaired %+v (%v)", at, r, err)
		}
		verifySound(t, dir)
		compareTasks(t, want, snapshotOf(t, dir))
	}
}

// TestRestore: a restored queue is another one, and starts nothing by itself.
func TestRestore(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := mixedQueue(t)
	was := verifySound(t, dir)
	want := snapshotOf(t, dir)
	file := filepath.Join(t.TempDir(), "backup.db")
	if _, _, err := queue.Backup(ctx, queue.Options{Dir: dir}, file, nil); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup has mode %v (%v)", info.Mode(), err)
	}
	at := filepath.Join(t.TempDir(), "new")
	got, err := queue.Restore(ctx, queue.Options{Dir: at}, file, queue.RestoreOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := verifySound(t, at)
	if now.QueueID == was.QueueID || got.QueueID != now.QueueID || !got.NewID || got.Tasks != was.Tasks || got.Held != was.Unfinished {
		t.Errorf("restored %+v from %+v", got, was)
	}
	checkRestored(t, at, want)
	if _, err := queue.Restore(ctx, queue.Options{Dir: at}, file, queue.RestoreOptions{}, nil); !errors.Is(err, queue.ErrNotEmpty) {
		t.Errorf("restored over a queue: %v", err)
	}
	again, err := queue.Restore(ctx, queue.Options{Dir: at}, file, queue.RestoreOptions{Replace: true}, nil)
	if err != nil || again.Former != got.Path {
		t.Errorf("restored once more: %+v (%v)", again, err)
	}
	if _, err := os.Stat(got.Path); err != nil {
		t.Errorf("what was there is gone: %v", err)
	}
}

// TestRestoreOfADatabase: the database in use is no backup of itself, and one that another
// queue uses is none either. Nobody is told that our own process is in the way.
func TestRestoreOfADatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir})
	db := filepath.Join(dir, "queue-000001.db")
	opts := queue.Options{Dir: t.TempDir(), LockTimeout: 30 * time.Millisecond}
	_, err := queue.Restore(t.Context(), opts, db, queue.RestoreOptions{}, nil)
	if task.CodeOf(err) != task.CodeConflict || !strings.Contains(fmt.Sprint(err), fmt.Sprintf("pid %d has it open", os.Getpid())) {
		t.Errorf("of a queue in use: %v", err)
	}
	closeQueue(t, q)
	opts.Dir = dir
	_, err = queue.Restore(t.Context(), opts, db, queue.RestoreOptions{Replace: true}, nil)
	if task.CodeOf(err) != task.CodeConflict || !strings.Contains(fmt.Sprint(err), "is the database in use itself") {
		t.Errorf("of the queue's own: %v", err)
	}
	verifySound(t, dir)
}

// TestBackupOfDamaged: a backup that is damaged does not take the place of an earlier one.
func TestBackupOfDamaged(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := mixedQueue(t)
	file := filepath.Join(t.TempDir(), "backup.db")
	if _, kept, err := queue.Backup(ctx, queue.Options{Dir: dir}, file, nil); err != nil || !kept.Sound || kept.Path != file {
		t.Fatalf("the backup is %+v (%v)", kept, err)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	spoilRecord(t, dir, "mixed-007")
	_, kept, err := queue.Backup(ctx, queue.Options{Dir: dir}, file, nil)
	if err != nil || kept.Sound || kept.Path != file+".damaged" {
		t.Errorf("the damaged backup is %+v (%v)", kept, err)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the earlier backup has changed (%v)", err)
	}
	if v, err := queue.VerifyFile(ctx, kept.Path, queue.Options{}, nil); err != nil || v.Sound() {
		t.Errorf("beside it is %+v (%v)", v, err)
	}
}

// TestOwnersAreFollowed: what is restored or repaired goes on behind the owners that
// the database had, each of which has left records under a number of its own.
func TestOwnersAreFollowed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := mixedQueue(t)
	var last uint64
	for i := range 3 {
		q := openQueue(t, queue.Options{Dir: dir})
		submit(t, q, &task.Spec{ID: fmt.Sprintf("owner-%d", i), Class: "cpu_short", Argv: []string{"true"}})
		last = q.Fence()
		closeQueue(t, q)
	}
	file, restored := filepath.Join(t.TempDir(), "backup.db"), filepath.Join(t.TempDir(), "new")
	if _, _, err := queue.Backup(ctx, queue.Options{Dir: dir}, file, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := queue.Restore(ctx, queue.Options{Dir: restored}, file, queue.RestoreOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := queue.Repair(ctx, queue.Options{Dir: dir}, nil); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{dir, restored} {
		verifySound(t, at)
		q := openQueue(t, queue.Options{Dir: at})
		if q.Fence() <= last+1 { // the rebuilding was an owner, too
			t.Errorf("the owner of %s has number %d, and an earlier one had %d", at, q.Fence(), last)
		}
		closeQueue(t, q)
	}
}

// checkRestored: ended tasks are as they were, all others are held.
func checkRestored(t *testing.T, dir string, want map[task.Seq]string) {
	t.Helper()
	q := openQueue(t, queue.Options{Dir: dir})
	defer closeQueue(t, q)
	heads, err := headsOf(q, 10)
	if err != nil || len(heads) != 0 {
		t.Errorf("%v would start (%v)", heads, err)
	}
	if active, err := q.Active(); err != nil || len(active) != 0 {
		t.Errorf("%d tasks are followed (%v)", len(active), err)
	}
	for seq, text := range want {
		now, err := textOf(q, seq)
		if err != nil {
			t.Error(err)
			continue
		}
		if ended := strings.Contains(text, `"status":{"State":9`); ended && now != text || !ended && !strings.Contains(now, `"Held":"restored from a backup`) {
			t.Errorf("task %d was\n%s\nand is\n%s", seq, text, now)
		}
	}
	held, err := q.Lookup("mixed-000")
	if err != nil {
		t.Fatal(err)
	}
	apply(t, q, held.Seq, task.Event{Kind: task.EventHeld})
	if heads, err := headsOf(q, 10); err != nil || len(heads) != 1 {
		t.Errorf("let go, %v would start (%v)", heads, err)
	}
}

// TestRestoreOfDamaged is refused, unless that is what is wanted.
func TestRestoreOfDamaged(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := mixedQueue(t)
	spoilRecord(t, dir, "mixed-007")
	file, at := dbPath(dir), filepath.Join(t.TempDir(), "new")
	refused, err := queue.Restore(ctx, queue.Options{Dir: at}, file, queue.RestoreOptions{}, nil)
	if !errors.Is(err, queue.ErrDamagedBackup) || len(refused.Findings) == 0 {
		t.Errorf("restored from a damaged file: %+v (%v)", refused, err)
	}
	if _, err := queue.Restore(ctx, queue.Options{Dir: at}, file, queue.RestoreOptions{Damaged: true}, nil); err != nil {
		t.Error(err)
	}
	verifySound(t, at)
}

// memoryFile is a copy that is made in memory.
type memoryFile []byte

func (m *memoryFile) writeAt(offset int64, piece []byte) error {
	if need := int(offset) + len(piece); need > len(*m) {
		*m = append(*m, make([]byte, need-len(*m))...)
	}
	copy((*m)[offset:], piece)
	return nil
}

// TestCopyUnderLoad copies a queue while others submit and move tasks. Each copy is of
// one moment: it is sound, and each caller finds in it what it was told before the copy
// began, and of what came later a beginning without a gap.
func TestCopyUnderLoad(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{Dir: t.TempDir()})
	const callers = 4
	var told [callers]atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for n := int64(1); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				s := spec(fmt.Sprintf("load-%d-%d", i, n))
				s.Payload = []byte(`{"p": "` + strings.Repeat("p", 3000) + `"}`)
				if err := submitAndPlace(q, s); err != nil {
					t.Error(err)
					return
				}
				told[i].Store(n)
			}
		})
	}
	copies := 8
	if testing.Short() {
		copies = 3
	}
	for range copies {
		var before [callers]int64
		for i := range before {
			before[i] = told[i].Load()
		}
		var file memoryFile
		if _, err := q.CopyTo(context.Background(), file.writeAt, nil); err != nil {
			t.Fatal(err)
		}
		checkCopy(t, file, before[:])
	}
	close(stop)
	wg.Wait()
	closeQueue(t, q)
}

// submitAndPlace is for goroutines beside that of the test.
func submitAndPlace(q *queue.Queue, s *task.Spec) error {
	got, err := q.Submit(context.Background(), []*task.Spec{s})
	if err != nil || got[0].Err != nil {
		return errors.Join(err, got[0].Err)
	}
	ev := placed
	ev.Attempt = 1
	applied, err := q.Apply(context.Background(), []task.Change{{Seq: got[0].Task.Seq, Event: ev}})
	if err != nil {
		return err
	}
	return applied[0].Err
}

func checkCopy(t *testing.T, file []byte, before []int64) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(dbPath(dir), file, 0o600); err != nil {
		t.Fatal(err)
	}
	verifySound(t, dir)
	q := openQueue(t, queue.Options{Dir: dir})
	defer closeQueue(t, q)
	for i, n := range before {
		last := int64(0)
		for k := int64(1); ; k++ {
			_, err := q.Lookup(fmt.Sprintf("load-%d-%d", i, k))
			if errors.Is(err, queue.ErrNotFound) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			last = k
		}
		if last < n {
			t.Errorf("caller %d was told of %d tasks before the copy began, and %d are in it", i, n, last)
		}
	}
}

// TestOpenWhileCompacted: whoever waits for the queue while it is compacted has the new
// one, and never finds nothing.
func TestOpenWhileCompacted(t *testing.T) {
	t.Parallel()
	dir := mixedQueue(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				q, err := queue.Open(context.Background(), queue.Options{Dir: dir, LockTimeout: hangsAfter})
				if err != nil {
					t.Error(err)
					return
				}
				if n := q.Counts().Total(task.Pending); n == 0 {
					t.Error("the queue is empty")
				}
				if err := q.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 5 {
		if _, err := queue.Compact(context.Background(), queue.Options{Dir: dir, LockTimeout: hangsAfter}, nil); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	verifySound(t, dir)
}

// TestBackupRemovesWhatOneHasLeft: the file of a backup that was killed goes with the next
// one to the same place. One that somebody is writing stays, and so does what only looks
// like one.
func TestBackupRemovesWhatOneHasLeft(t *testing.T) {
	t.Parallel()
	dir, place := mixedQueue(t), t.TempDir()
	path := filepath.Join(place, "bk")
	left := filepath.Join(place, ".bk.4711")
	others := []string{".bk.4711x", ".bk.", ".other.4711", ".bk.1.damaged"}
	for _, name := range append(others, filepath.Base(left)) {
		if err := os.WriteFile(filepath.Join(place, name), []byte("half of it"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writing, err := queue.NewFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer writing.Discard()
	if _, err := os.Lstat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was left behind is still there: %v", err)
	}
	if _, kept, err := queue.Backup(context.Background(), queue.Options{Dir: dir}, path, nil); err != nil || !kept.Sound {
		t.Errorf("backup: %+v, %v", kept, err)
	}
	for _, name := range append(others, filepath.Base(writing.Name())) {
		if _, err := os.Lstat(filepath.Join(place, name)); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
}

// TestNewFileNamesItsPlace: the error is about the file that was asked for, not about
// the name that it has until it is whole.
func TestNewFileNamesItsPlace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "none", "backup.db")
	_, err := queue.NewFile(path)
	if want := "write " + path + ": no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
