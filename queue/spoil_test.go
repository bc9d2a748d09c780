package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// TestSpoiledFile spoils a database in many ways, at rest and while it is open, and
// uses it. It may do what it should or say that it is damaged; it may not crash,
// hang, panic, or lose a task without a word. That a crash is a failed test and not
// the end of all of them, a child does it.
//
// DSPY_SPOIL=SEED-SEED tries other seeds.
func TestSpoiledFile(t *testing.T) {
	t.Parallel()
	spoilMany(t, "spoil", 60)
}

// TestSpoiledFileIsRepaired spoils a database at rest, and repairs it. What is left is
// as it was, what is not is named, and the repaired one is sound.
//
// DSPY_SPOIL=SEED-SEED tries other seeds.
func TestSpoiledFileIsRepaired(t *testing.T) {
	t.Parallel()
	spoilMany(t, "repair", 12)
}

// spoilMany does it in a child, and a thousand times at least with DSPY_TEST_FULL.
func spoilMany(t *testing.T, role string, to int) {
	t.Helper()
	from := 1
	switch {
	case os.Getenv("DSPY_TEST_FULL") != "":
		to = max(1000, to)
	case testing.Short():
		to /= 5
	}
	if given := os.Getenv("DSPY_SPOIL"); given != "" {
		if _, err := fmt.Sscanf(given, "%d-%d", &from, &to); err != nil {
			t.Fatalf("DSPY_SPOIL=%s: %v", given, err)
		}
	}
	dir := t.TempDir()
	makeSpoilable(t, dir)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+role, childDirEnv+"="+dir, fmt.Sprintf("SEEDS=%d-%d", from, to), "GOTRACEBACK=all")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	if err != nil {
		t.Fatalf("seeds %d to %d: %v; the last that was said:\n%s", from, to, err, strings.Join(lines[max(0, len(lines)-100):], "\n"))
	}
	t.Log(lines[len(lines)-1])
}

// makeSpoilable makes the databases that are spoiled: with the list of free pages
// and without it, and one with so many ids that they have an index.
func makeSpoilable(t *testing.T, dir string) {
	t.Helper()
	for name, many := range map[string]int{"small": 0, "ids": 4200} {
		at := filepath.Join(dir, name)
		q := openQueue(t, queue.Options{Dir: at, Now: newClock().now}) // so that a seed does the same again, almost
		if many > 0 {
			fill(t, q, many, func(int, *task.Spec) {})
		}
		fillMixed(t, q)
		closeQueue(t, q)
		if err := os.Truncate(dbPath(at), usedBytes(t, at)); err != nil { // so that it is quickly copied
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.CopyFS(filepath.Join(dir, "unlisted"), os.DirFS(filepath.Join(dir, "small")))); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(dbPath(filepath.Join(dir, "unlisted")), 0o600, &bolt.Options{NoFreelistSync: true})
	if err == nil {
		err = errors.Join(db.Update(func(*bolt.Tx) error { return nil }), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// mixedTasks is how many tasks fillMixed makes.
const mixedTasks = 200

// fillMixed makes tasks of all kinds and in all states.
func fillMixed(t *testing.T, q *queue.Queue) {
	t.Helper()
	for i := range mixedTasks {
		s := &task.Spec{
			ID: fmt.Sprintf("mixed-%03d", i), Class: []string{"cpu", "gpu"}[i%2], Priority: int32(i % 5), Image: []string{"", "one", "two"}[i%3],
			Argv: []string{"run", strings.Repeat("x", i%50)}, Ambient: []string{fmt.Sprint("N=", i%7)}, Retries: i % 2,
		}
		if i%10 == 0 {
			s.Payload = []byte(fmt.Sprintf(`{"text": "%s"}`, strings.Repeat("y", 1000*(i%90))))
		}
		if i%4 == 3 {
			s.After = []task.Dep{{ID: fmt.Sprintf("mixed-%03d", i-1)}}
		}
		tk := submit(t, q, s)[0]
		if tk.State() == task.Pending && i%4 != 3 {
			apply(t, q, tk.Seq, []task.Event{placed, launched, started, failed}[:i%5]...)
		}
	}
}

// hangsAfter is far more than any of it takes.
const hangsAfter = 30 * time.Second

// spoil is the child of TestSpoiledFile.
func spoil(dir string) error {
	return eachSeed(dir, func(s *spoiled) (string, error) { return s.run(dir) })
}

// repairAll is the child of TestSpoiledFileIsRepaired.
func repairAll(dir string) error {
	want := map[string]map[task.Seq]string{}
	for _, base := range spoilable {
		var err error
		if want[base], err = readTasks(filepath.Join(dir, base)); err != nil {
			return err
		}
	}
	return eachSeed(dir, func(s *spoiled) (string, error) {
		base, err := s.copyOne(dir)
		if err != nil {
			return "", err
		}
		if err := s.spoil(); err != nil {
			return "", err
		}
		return s.repairSpoiled(want[base])
	})
}

// eachSeed says which seed it is at.
func eachSeed(dir string, try func(*spoiled) (end string, err error)) error {
	var from, to uint64
	if _, err := fmt.Sscanf(os.Getenv("SEEDS"), "%d-%d", &from, &to); err != nil {
		return err
	}
	ends := map[string]int{}
	for seed := from; seed <= to; seed++ {
		fmt.Println("seed", seed)
		s := &spoiled{seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), dir: filepath.Join(dir, "seed-"+strconv.FormatUint(seed, 10))}
		// What hangs is shown with the stacks of all goroutines.
		late := time.AfterFunc(hangsAfter, func() { panic(fmt.Sprintf("seed %d hangs", seed)) })
		end, err := try(s)
		fmt.Println(s.how)
		late.Stop()
		if err != nil {
			return fmt.Errorf("seed %d (%s): %w\n%s", seed, s.how, err, s.log.String())
		}
		ends[end]++
		if err := os.RemoveAll(s.dir); err != nil {
			return err
		}
	}
	fmt.Println(ends)
	return nil
}

// spoiled is one database that is spoiled.
type spoiled struct {
	seed uint64
	rng  *rand.Rand
	dir  string
	how  string // what was done to it
	log  syncBuffer
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// spoilable are the databases that are spoiled.
var spoilable = []string{"small", "small", "unlisted", "ids"}

// copyOne takes one of the databases.
func (s *spoiled) copyOne(from string) (base string, err error) {
	base = spoilable[s.rng.IntN(len(spoilable))]
	s.how = "database " + base
	return base, os.CopyFS(s.dir, os.DirFS(filepath.Join(from, base)))
}

// run returns how it ended.
func (s *spoiled) run(from string) (end string, err error) {
	base, err := s.copyOne(from)
	if err != nil {
		return "", err
	}
	open, sparse := s.rng.IntN(3) == 0, s.rng.IntN(3) == 0
	s.how = fmt.Sprintf("database %s, while open: %v, sparse: %v", base, open, sparse)
	opts := queue.Options{Dir: s.dir, Logger: slog.New(slog.NewTextHandler(&s.log, nil)), Retention: queue.Retention{Age: time.Nanosecond, Count: 10}}
	if sparse {
		opts.Glance = true
	}
	if !open {
		if err := s.spoil(); err != nil {
			return "", err
		}
	}
	q, err := queue.Open(context.Background(), opts)
	if err != nil {
		return "refused", s.wantClear(err)
	}
	if open {
		err = s.spoil()
	} else if !sparse {
		err = s.nothingLost(q)
	}
	err = errors.Join(err, s.use(q))
	end = "works"
	switch {
	case q.Err() != nil:
		end = "failed in use"
	case len(q.Damaged()) > 0:
		end = "has damaged records"
	}
	return end, errors.Join(err, s.wantClear(q.Close()))
}

// spoil does something to the file.
func (s *spoiled) spoil() error {
	f, err := os.OpenFile(dbPath(s.dir), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	const page = 4096
	pages := info.Size() / page
	at := s.rng.Int64N(pages) * page
	buf := make([]byte, page)
	if _, err := f.ReadAt(buf, at); err != nil {
		return err
	}
	switch kind := s.rng.IntN(8); kind {
	case 0: // cut short
		at = s.rng.Int64N(info.Size() + 1)
		s.how += fmt.Sprintf(", cut to %d bytes", at)
		return f.Truncate(at)
	case 1: // another page in its place
		to := s.rng.Int64N(pages) * page
		s.how += fmt.Sprintf(", page %d written over page %d", at/page, to/page)
		_, err := f.WriteAt(buf, to)
		return err
	case 2: // nothing in its place
		clear(buf)
		s.how += fmt.Sprintf(", page %d cleared", at/page)
	case 3: // noise from some byte on
		off := s.rng.IntN(page)
		for i := range buf[off:min(page, off+64)] {
			buf[off+i] = byte(s.rng.Uint32())
		}
		s.how += fmt.Sprintf(", noise in page %d at %d", at/page, off)
	case 4, 5: // a bit of the head, or of the first elements
		off := s.rng.IntN(16 << (2 * (kind - 4)))
		buf[off] ^= 1 << s.rng.IntN(8)
		s.how += fmt.Sprintf(", a bit of page %d at %d", at/page, off)
	default: // some bits anywhere
		for range 1 + s.rng.IntN(20) {
			buf[s.rng.IntN(page)] ^= 1 << s.rng.IntN(8)
		}
		s.how += fmt.Sprintf(", bits of page %d", at/page)
	}
	_, err = f.WriteAt(buf, at)
	return err
}

// nothingLost: each task is there, or is named as damaged.
func (s *spoiled) nothingLost(q *queue.Queue) error {
	var found int
	for before := task.Seq(0); ; {
		page, next, err := q.List(task.Filter{Limit: 1000, Before: before})
		if err != nil {
			return s.wantClear(err)
		}
		for _, t := range page {
			if strings.HasPrefix(t.Spec.ID, "mixed-") {
				found++
			}
		}
		if before = next; next == 0 {
			break
		}
	}
	for _, d := range q.Damaged() {
		if d.Bucket == "specs" || d.Bucket == "status" {
			found++
		}
	}
	if found < mixedTasks {
		return fmt.Errorf("%d tasks are left, and nothing is said about the others: %+v", found, q.Damaged())
	}
	return nil
}

// use does with the queue what a daemon does.
func (s *spoiled) use(q *queue.Queue) error {
	ctx := context.Background()
	var errs []error
	try := func(err error) {
		if err := s.wantClear(err); err != nil {
			errs = append(errs, err)
		}
	}
	must := func(err error) { // what is wrong with some tasks does not stop it
		if err != nil && !errors.Is(err, queue.ErrDamagedFile) {
			errs = append(errs, fmt.Errorf("stopped by: %w", err))
		}
	}
	_, err := q.Active()
	must(err)
	heads, err := headsOf(q, 20)
	must(err)
	for i := range 40 {
		_, err := q.Get(task.Seq(1 + s.rng.IntN(mixedTasks)))
		try(err)
		_, err = q.Lookup(fmt.Sprintf("mixed-%03d", s.rng.IntN(mixedTasks)))
		try(err)
		_, _, err = q.Position(task.Seq(1 + i))
		try(err)
		_, err = q.Result(task.Seq(1 + i))
		try(err)
	}
	for _, f := range []task.Filter{{Limit: 1000}, {States: []task.State{task.Pending}}, {Class: "gpu", States: []task.State{task.Failed}}} {
		_, _, err := q.List(f)
		must(err)
	}
	_, err = q.Records(0, 10_000)
	must(err)
	_, err = q.Stats()
	must(err)
	for i := range 5 {
		_, err := q.Submit(ctx, []*task.Spec{
			{ID: fmt.Sprint("new-", i), Class: "cpu", Argv: []string{"true"}, After: []task.Dep{{ID: fmt.Sprintf("mixed-%03d", s.rng.IntN(mixedTasks))}}},
			{ID: fmt.Sprint("more-", i), Class: "gpu", Argv: []string{"true"}, Payload: []byte(`"` + strings.Repeat("z", 5000) + `"`)},
		})
		must(err)
	}
	var changes []task.Change
	for _, h := range heads {
		ev := placed
		ev.Attempt = h.Attempt
		changes = append(changes, task.Change{Seq: h.Seq, Event: ev})
	}
	_, err = q.Apply(ctx, changes)
	must(err)
	for more, n := true, 0; more && err == nil; n++ {
		if n == 100 {
			return errors.New("time brings work without end")
		}
		_, more, err = q.Advance(ctx, task.At(time.Now().Add(time.Hour)))
		must(err)
	}
	for range 3 {
		_, _, err = q.Expire(ctx, task.At(time.Now()))
		must(err)
	}
	if text := s.log.String(); strings.Contains(text, "queue request panicked") {
		errs = append(errs, errors.New("a request panicked"))
	}
	return errors.Join(errs...)
}

// wantClear: an error says that something is damaged, or what is not there.
func (s *spoiled) wantClear(err error) error {
	switch {
	case err == nil, errors.Is(err, queue.ErrDamagedFile), errors.Is(err, task.ErrDamaged), errors.Is(err, queue.ErrNotFound):
		return nil
	case task.CodeOf(err) == task.CodeUnsupported: // the schema's version was hit
		return nil
	default:
		return fmt.Errorf("not clear: %w", err)
	}
}
