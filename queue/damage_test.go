package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/backendtest"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// What is to stay as it is, and what may be replaced: it can be made again, or the
// result of a later attempt takes its place.
var (
	originals   = [][]byte{bucketSpecs, bucketStatus, bucketPayloads, bucketTombs, bucketEvents}
	replaceable = [][]byte{bucketEnvs, bucketShapes, bucketCounters, bucketResults}
)

// flipped is a record of which a bit was flipped.
type flipped struct{ bucket, key, value string }

// flip damages some records of the buckets, at random.
func flip(t *testing.T, q *Queue, rng *rand.Rand, n int, buckets [][]byte) map[flipped]bool {
	t.Helper()
	out := map[flipped]bool{}
	err := q.db.Update(func(tx *bolt.Tx) error {
		for range n {
			name := buckets[rng.IntN(len(buckets))]
			var keys [][]byte
			_ = tx.Bucket(name).ForEach(func(k, _ []byte) error { // the function returns no error
				keys = append(keys, bytes.Clone(k))
				return nil
			})
			if len(keys) == 0 {
				continue
			}
			k := keys[rng.IntN(len(keys))]
			v := bytes.Clone(tx.Bucket(name).Get(k))
			for f := range out { // flipped back it would be whole
				if f.bucket == string(name) && f.key == string(k) {
					k = nil
				}
			}
			if k == nil {
				continue
			}
			v[rng.IntN(len(v))] ^= 1 << rng.IntN(8)
			if err := tx.Bucket(name).Put(k, v); err != nil {
				return err
			}
			out[flipped{string(name), string(k), string(v)}] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// ruined is a queue of fifty tasks, some of whose records are damaged, with an
// engine over it.
type ruined struct {
	t     *testing.T
	dir   string
	q     *Queue
	fake  *backendtest.Fake
	leave func()
	tasks map[string]task.Seq
	after map[string][]task.Dep
}

func (r *ruined) open() {
	r.t.Helper()
	var err error
	r.q, err = Open(context.Background(), Options{
		Beat: 24 * time.Hour,
		Dir:  r.dir, Retention: Retention{Age: time.Hour, TombstoneAge: 24 * time.Hour, EventAge: 24 * time.Hour},
	})
	if err != nil {
		r.t.Fatalf("open: %v", err)
	}
}

func (r *ruined) close() {
	if err := r.q.Close(); err != nil {
		r.t.Errorf("close: %v", err)
	}
}

func (r *ruined) start() {
	r.t.Helper()
	e, err := engine.New(engine.Options{
		Store: r.q, Backends: []engine.Registration{{Backend: r.fake, Local: true, NoImage: true, Image: true}},
		Classes: map[string]engine.Class{
			"a": {Name: "a", Backends: []string{"fake"}, Short: true}, "b": {Name: "b", Parallel: 1, Backends: []string{"fake"}},
		},
		Capacity: scheduler.Capacity{CPUMilli: 2000}, Wake: r.q.Changed(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	r.leave = func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("the engine gave up: %v", err)
		}
	}
}

func (r *ruined) pass(d time.Duration) {
	time.Sleep(d) // in a synctest bubble
	synctest.Wait()
}

// submit submits fifty tasks of several kinds, some of which wait for others.
func (r *ruined) submit(rng *rand.Rand) {
	r.t.Helper()
	for i := range 50 {
		s := &task.Spec{
			ID: fmt.Sprint("t", i), Class: []string{"a", "a", "b"}[rng.IntN(3)], Priority: int32(rng.IntN(3)),
			Image: []string{"", "one", "two"}[rng.IntN(3)], Retries: rng.IntN(2), Ambient: []string{fmt.Sprint("N=", rng.IntN(3))},
			Argv: []string{fmt.Sprintf(`{"run_ms": %d, "exit": %d, "result": {"n": %d}}`, rng.IntN(300), rng.IntN(2), i)},
		}
		if rng.IntN(4) == 0 {
			s.Payload = []byte(fmt.Sprintf(`{"run_ms": 5, "text": "%s"}`, strings.Repeat("x", 3000)))
		}
		for range min(i, rng.IntN(3)) {
			s.After = append(s.After, task.Dep{ID: fmt.Sprint("t", rng.IntN(i)), When: task.Condition(rng.IntN(3))})
		}
		got, err := r.q.Submit(context.Background(), []*task.Spec{s})
		if err != nil || got[0].Err != nil {
			r.t.Fatalf("submit: %v %+v", err, got)
		}
		r.tasks[s.ID], r.after[s.ID] = got[0].Task.Seq, s.After
	}
}

// TestDamageStopsNobodyElse flips bits of random records, at rest and under a
// running engine. Every task whose own records are whole ends, unless it waits
// for one whose are not; and what is damaged stays as it is, and is named.
func TestDamageStopsNobodyElse(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { damageStopsNobodyElse(t, seed) })
		})
	}
}

func damageStopsNobodyElse(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	r := &ruined{t: t, dir: t.TempDir(), fake: backendtest.NewFake(), tasks: map[string]task.Seq{}, after: map[string][]task.Dep{}}
	defer r.fake.Close()
	r.open()
	r.start()
	r.submit(rng)
	r.pass(time.Duration(rng.IntN(2000)) * time.Millisecond)
	atRest := rng.IntN(2) == 0
	if atRest {
		r.leave()
	}
	bad := flip(t, r.q, rng, 1+rng.IntN(8), slices.Concat(originals, replaceable))
	if atRest {
		r.close()
		r.open()
		r.start()
	}
	r.pass(30 * time.Minute)
	r.submitAgain()
	r.checkEnds(bad)
	for range 3 { // retention goes on as well
		r.pass(30 * time.Hour)
		for more := true; more; {
			var err error
			if _, more, err = r.q.Expire(context.Background(), task.At(time.Now())); err != nil {
				t.Fatalf("expire: %v", err)
			}
		}
	}
	r.checkKept(bad)
	r.leave()
	r.close()
}

// submitAgain: an id is accepted once, though its record cannot be read.
func (r *ruined) submitAgain() {
	r.t.Helper()
	for id := range r.tasks {
		_, err := r.q.Lookup(id)
		if !errors.Is(err, task.ErrDamaged) {
			continue
		}
		if msg := err.Error(); task.CodeOf(err) != task.CodeInternal || !strings.Contains(msg, id) || !strings.Contains(msg, "damaged") {
			r.t.Errorf("looking %s up: %v", id, err)
		}
		got, err := r.q.Submit(context.Background(), []*task.Spec{{ID: id, Class: "a", Argv: []string{"{}"}}})
		if err != nil || got[0].Err == nil {
			r.t.Errorf("%s was accepted again: %+v %v", id, got, err)
		}
	}
}

// checkEnds: what is whole has ended, and can be listed.
func (r *ruined) checkEnds(bad map[flipped]bool) {
	r.t.Helper()
	stuck := map[string]bool{} // cannot be moved, or waits for such a one
	ids := slices.SortedFunc(maps.Keys(r.tasks), func(a, b string) int { return int(r.tasks[a]) - int(r.tasks[b]) })
	want := 0
	for _, id := range ids {
		stuck[id] = isBad(bad, r.tasks[id], bucketSpecs, bucketStatus)
		lost := stuck[id]
		for _, d := range r.after[id] {
			stuck[id] = stuck[id] || stuck[d.ID]
		}
		if !lost {
			want++
		}
		t, err := r.q.Get(r.tasks[id])
		switch {
		case isBad(bad, r.tasks[id], bucketSpecs, bucketStatus, bucketPayloads):
			if !errors.Is(err, task.ErrDamaged) {
				r.t.Errorf("%s was damaged, and Get says %v", id, err)
			}
		case errors.Is(err, task.ErrDamaged): // its environment was
		case err != nil:
			r.t.Errorf("%s: %v", id, err)
		case !t.State().Terminal() && !stuck[id]:
			r.t.Errorf("%s is %s and nothing is wrong with it", id, t.State())
		}
	}
	r.checkNames(bad)
	list, _, err := r.q.List(task.Filter{Limit: 1000})
	if err != nil || len(list) != want {
		r.t.Errorf("%d tasks are listed, want %d (%v)", len(list), want, err)
	}
	if _, err := r.q.Records(0, 10_000); err != nil {
		r.t.Errorf("records: %v", err)
	}
}

func isBad(bad map[flipped]bool, seq task.Seq, buckets ...[]byte) bool {
	for f := range bad {
		for _, b := range buckets {
			if f.bucket == string(b) && f.key == string(seqKey(seq)) {
				return true
			}
		}
	}
	return false
}

// checkKept: nothing that was damaged has been written over.
func (r *ruined) checkKept(bad map[flipped]bool) {
	r.t.Helper()
	err := r.q.db.View(func(tx *bolt.Tx) error {
		for f := range bad {
			original := slices.ContainsFunc(originals, func(b []byte) bool { return string(b) == f.bucket })
			if got := tx.Bucket([]byte(f.bucket)).Get([]byte(f.key)); original && string(got) != f.value {
				r.t.Errorf("the damaged %x of bucket %s is now %x, and was %x", f.key, f.bucket, got, f.value)
			}
		}
		return nil
	})
	if err != nil {
		r.t.Error(err)
	}
}

// checkNames: what was met has a name, but where the event log is damaged, too.
func (r *ruined) checkNames(bad map[flipped]bool) {
	r.t.Helper()
	silent := slices.ContainsFunc(slices.Collect(maps.Keys(bad)), func(f flipped) bool { return f.bucket == string(bucketEvents) })
	named := map[string]bool{}
	for _, d := range r.q.Damaged() {
		named[d.Bucket+"/"+string(d.Key)] = true
		if seq := r.tasks[d.ID]; d.Seq != seq && (d.ID != "" || !silent) {
			r.t.Errorf("%+v is said to belong to %q, which is number %d", d, d.ID, seq)
		}
	}
	for f := range bad {
		if f.bucket == string(bucketSpecs) && !named[f.bucket+"/"+f.key] {
			r.t.Errorf("nobody was told of %x in bucket %s", f.key, f.bucket)
		}
	}
}

// TestRetentionPassesDamage: an ended task that cannot be read stays, and those
// behind it go.
func TestRetentionPassesDamage(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	q, err := Open(ctx, Options{Dir: t.TempDir(), Retention: Retention{Age: time.Nanosecond}})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	for i := range 3 {
		s := trueSpec(fmt.Sprint("t", i))
		s.Payload = []byte(`{"x":"` + strings.Repeat("x", 5000) + `"}`)
		got, err := q.Submit(ctx, []*task.Spec{s})
		if err != nil {
			t.Fatal(err)
		}
		ev := task.Event{Kind: task.EventRefused, At: task.Instant(i + 1), Attempt: 1}
		if _, err := q.Apply(ctx, []task.Change{{Seq: got[0].Task.Seq, Event: ev}}); err != nil {
			t.Fatal(err)
		}
	}
	damage(t, q, bucketPayloads, seqKey(1))
	removed, _, err := q.Expire(ctx, task.At(time.Now()))
	if err != nil || len(removed) != 2 || removed[0].Seq != 2 || removed[1].Seq != 3 {
		t.Errorf("removed %v (%v)", removed, err)
	}
	if _, err := q.Get(1); !errors.Is(err, task.ErrDamaged) {
		t.Errorf("what cannot be read is gone: %v", err)
	}
}

// TestNumbersAreCountedAgain: damaged counters are made again from the tasks.
func TestNumbersAreCountedAgain(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	opts := Options{Dir: t.TempDir()}
	q, err := Open(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if _, err := q.Submit(ctx, []*task.Spec{trueSpec(fmt.Sprint("t", i))}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := q.Apply(ctx, []task.Change{{Seq: 2, Event: task.Event{Kind: task.EventPlaced, Attempt: 1}}}); err != nil {
		t.Fatal(err)
	}
	want := q.Counts()
	damage(t, q, bucketCounters, []byte("cpu"))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if q, err = Open(ctx, opts); err != nil {
		t.Fatal(err)
	}
	if got := q.Counts(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("counts %v, want %v", got, want)
	}
	if _, err := q.Submit(ctx, []*task.Spec{trueSpec("more")}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(q.Check(ctx), q.Close()); err != nil {
		t.Error(err)
	}
}

// damage flips a bit of one record.
func damage(t *testing.T, q *Queue, bucket, key []byte) {
	t.Helper()
	err := q.db.Update(func(tx *bolt.Tx) error {
		v := bytes.Clone(tx.Bucket(bucket).Get(key))
		v[len(v)-1] ^= 1
		return tx.Bucket(bucket).Put(key, v)
	})
	if err != nil {
		t.Fatal(err)
	}
}
