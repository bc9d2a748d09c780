package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue/queuepb"
)

func openHere(t *testing.T) *Queue {
	t.Helper()
	q, err := Open(context.Background(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(q.Check(context.Background()), q.Close()); err != nil {
			t.Error(err)
		}
	})
	return q
}

func trueSpec(id string) *task.Spec { return &task.Spec{ID: id, Class: "cpu", Argv: []string{"true"}} }

// TestOneRequestFails puts requests that fail and panic after they have written
// into one transaction with good ones.
func TestOneRequestFails(t *testing.T) {
	t.Parallel()
	q := openHere(t)
	boom := errors.New("boom")
	submitAnd := func(id string, fail func() error) *request {
		return &request{weight: 1, finish: make(chan struct{}), run: func(b *batch) error {
			sub := q.prepare(trueSpec(id))
			if _, err := b.submit(&sub); err != nil {
				return err
			}
			return fail()
		}}
	}
	good := func() error { return nil }
	requests := []*request{
		submitAnd("a", good), submitAnd("b", func() error { return boom }), submitAnd("c", good),
		submitAnd("d", func() error { panic("boom") }), submitAnd("e", good),
	}
	// The writer's own goroutine is idle: nothing else was asked of the queue.
	q.commit(requests)
	for i, r := range requests {
		if failed := r.err != nil; failed != (i == 1 || i == 3) {
			t.Errorf("request %d: %v", i, r.err)
		}
	}
	if !errors.Is(requests[1].err, boom) {
		t.Errorf("the cause is lost: %v", requests[1].err)
	}
	for i, id := range []string{"a", "c", "e"} {
		if got, err := q.Lookup(id); err != nil || got.Seq != task.Seq(i+1) {
			t.Errorf("%s is task %d (%v)", id, got.Seq, err)
		}
	}
}

func TestRunSearch(t *testing.T) {
	t.Parallel()
	distributions := map[string]func() idHash{
		"even":   func() idHash { return idHash(rand.Uint64()) },
		"narrow": func() idHash { return idHash(rand.Uint64N(50)) },
		"skewed": func() idHash { return idHash(uint64(1) << rand.IntN(64)) },
		"top":    func() idHash { return idHash(^uint64(0) - rand.Uint64N(3)) },
	}
	for name, next := range distributions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ids := recentIDs{}
			var hashes []idHash
			for i := range 200 {
				h := next()
				ids.add(h, task.Seq(i+1))
				hashes = append(hashes, h)
			}
			run := newIDRun(ids)
			for range 100 {
				hashes = append(hashes, next())
			}
			for _, h := range hashes {
				want := slices.Sorted(ids.find(h))
				if got := slices.Sorted(run.find(h)); !slices.Equal(got, want) {
					t.Fatalf("hash %x leads to %v, want %v", uint64(h), got, want)
				}
			}
		})
	}
}

// TestRunsMerge writes many small runs and finds everything after each.
func TestRunsMerge(t *testing.T) {
	t.Parallel()
	q := openHere(t)
	var seq task.Seq
	all := map[idHash]task.Seq{}
	for range fanOut*fanOut + 3 {
		err := q.db.Update(func(tx *bolt.Tx) error {
			ids := recentIDs{}
			for range 20 {
				seq++
				h := hashID(fmt.Sprint(seq))
				ids.add(h, seq)
				all[h] = seq
			}
			// The merge drops what lies below the oldest task; make one.
			if err := tx.Bucket(bucketSpecs).Put(seqKey(1), []byte{}); err != nil {
				return err
			}
			return addRun(tx, tx.Bucket(bucketIDs), 0, newIDRun(ids))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	err := q.db.Update(func(tx *bolt.Tx) error {
		runs := readRuns(tx)
		if len(runs) > 3*fanOut {
			t.Errorf("%d runs", len(runs))
		}
		total := 0
		for _, r := range runs {
			total += r.len()
		}
		if total != len(all) {
			t.Errorf("%d entries in runs, want %d", total, len(all))
		}
		for h, want := range all {
			var got []task.Seq
			findInRuns(runs, h, func(s task.Seq) bool { got = append(got, s); return true })
			if !slices.Contains(got, want) {
				t.Fatalf("hash %x leads to %v, want %d", uint64(h), got, want)
			}
		}
		if err := tx.Bucket(bucketSpecs).Delete(seqKey(1)); err != nil {
			return err
		}
		return tx.Bucket(bucketIDs).SetSequence(0)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMergeDropsTheForgotten(t *testing.T) {
	t.Parallel()
	a, b := recentIDs{}, recentIDs{}
	for i := range task.Seq(10) {
		a.add(idHash(i), i+1)
		b.add(idHash(i), i+11)
	}
	merged := mergeRuns([]idRun{newIDRun(a), newIDRun(b)}, 6)
	if merged.len() != 15 {
		t.Errorf("%d entries are left", merged.len())
	}
}

// TestCollision gives two ids one hash, in memory and in a run.
func TestCollision(t *testing.T) {
	t.Parallel()
	q := openHere(t)
	for _, id := range []string{"a", "b"} {
		if _, err := q.Submit(context.Background(), []*task.Spec{trueSpec(id)}); err != nil {
			t.Fatal(err)
		}
	}
	recent := recentIDs{}
	recent.add(7, 1)
	recent.add(7, 2)
	for _, candidates := range []func(idHash) func(func(task.Seq) bool){
		func(h idHash) func(func(task.Seq) bool) { return recent.find(h) },
		func(h idHash) func(func(task.Seq) bool) { return newIDRun(recent).find(h) },
	} {
		for want, id := range map[task.Seq]string{1: "a", 2: "b", 0: "c"} {
			err := q.db.View(func(tx *bolt.Tx) error {
				h, err := verifyID(tx, id, candidates(7))
				if h.seq != want {
					t.Errorf("%s leads to %d, want %d", id, h.seq, want)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
	}
}

// TestPauseThatLanded: whether a commit is there although it failed shows by what is
// paused, where it added nothing to the event log.
func TestPauseThatLanded(t *testing.T) {
	t.Parallel()
	q := openHere(t)
	p := task.Pause{At: 1, By: "me"}
	if _, _, err := q.Pause(context.Background(), "cpu", p); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		paused map[string]*task.Pause
		want   bool
	}{
		{nil, false}, {map[string]*task.Pause{"cpu": &p}, true}, {map[string]*task.Pause{"gpu": nil}, true},
		{map[string]*task.Pause{"cpu": nil}, false}, {map[string]*task.Pause{"cpu": {At: 2}}, false},
	} {
		if b := (&batch{q: q, paused: c.paused}); b.landed() != c.want {
			t.Errorf("%v: %v", c.paused, b.landed())
		}
	}
}

// TestRecordsKeepEveryField fills every field with something and takes it
// through its record.
func TestRecordsKeepEveryField(t *testing.T) {
	t.Parallel()
	n := 0
	spec := &task.Spec{}
	fillIn(t, reflect.ValueOf(spec).Elem(), &n)
	spec.Ambient = nil // stored apart, see envs.go
	if got := decodeSpec(encodeSpec(spec, envHash{})); !reflect.DeepEqual(got, spec) {
		t.Errorf("spec\n%+v, want\n%+v", got, spec)
	}
	var status task.Status
	fillIn(t, reflect.ValueOf(&status).Elem(), &n)
	if got := decodeStatus(encodeStatus(status)); !reflect.DeepEqual(got, status) {
		t.Errorf("status\n%+v, want\n%+v", got, status)
	}
	var rec task.Record
	fillIn(t, reflect.ValueOf(&rec).Elem(), &n)
	if got := decodeEvent(rec.Index, encodeEvent(rec)); !reflect.DeepEqual(got, rec) {
		t.Errorf("event\n%+v, want\n%+v", got, rec)
	}
	var final task.Final
	fillIn(t, reflect.ValueOf(&final).Elem(), &n)
	if got := decodeFinal(encodeFinal(final)); !reflect.DeepEqual(got, final) {
		t.Errorf("tombstone\n%+v, want\n%+v", got, final)
	}
}

// fillIn gives every field a value of its own, none of them zero.
func fillIn(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d", *n))
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n%250 + 1))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillIn(t, v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fillIn(t, v.Index(i), n)
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			fillIn(t, field, n)
		}
	default:
		t.Fatalf("fill in a %s", v.Type())
	}
}

// FuzzRecords: whatever bytes a damaged disk returns, decoding them gives an
// error or a value, and never a panic.
func FuzzRecords(f *testing.F) {
	s, _ := seal(encodeSpec(trueSpec("seed"), envHash{}))
	st, _ := seal(encodeStatus(task.New(1, trueSpec("seed"), 0).Status()))
	f.Add(s)
	f.Add(st)
	f.Add(sealBytes([]byte("x")))
	f.Add([]byte{formatProto})
	f.Fuzz(func(t *testing.T, v []byte) {
		key := seqKey(1)
		for _, sealed := range [][]byte{v, finish(append(make([]byte, envelopeHead), v...), formatProto)} {
			var spec queuepb.SpecRecord
			if openMessage(bucketSpecs, key, sealed, &spec) == nil {
				id, err := specID(key, sealed)
				if got := decodeSpec(&spec); err == nil && id == "" && got.ID != "" {
					t.Errorf("id %q and %q", id, got.ID)
				}
			}
			var status queuepb.StatusRecord
			if openMessage(bucketStatus, key, sealed, &status) == nil {
				_ = task.Restore(1, trueSpec("x"), decodeStatus(&status)).Ran(0)
			}
			_, _ = readEvent(key, sealed)
			_, _ = readFinal(key, sealed)
		}
		parseReadyValue(v, 0)
		_ = slices.Collect(idRun(v).find(7))
	})
}

// TestFreelistComesAndGoes removes enough for a long list of free pages, and
// opens the queue with and without it on disk.
func TestFreelistComesAndGoes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx := context.Background()
	opts := Options{Dir: dir, Retention: Retention{Age: time.Nanosecond, TombstoneAge: time.Nanosecond, EventAge: time.Nanosecond}}
	q, err := Open(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	payload := `{"x":"` + string(slices.Repeat([]byte("x"), 40<<10)) + `"}`
	for i := range 200 {
		s := trueSpec(fmt.Sprint(i))
		s.Payload = []byte(payload)
		got, err := q.Submit(ctx, []*task.Spec{s})
		if err != nil {
			t.Fatal(err)
		}
		ev := task.Event{Kind: task.EventRefused, At: 1, Attempt: 1}
		if _, err := q.Apply(ctx, []task.Change{{Seq: got[0].Task.Seq, Event: ev}}); err != nil {
			t.Fatal(err)
		}
	}
	for more := true; more; {
		if _, more, err = q.Expire(ctx, task.At(time.Now())); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := q.Submit(ctx, []*task.Spec{trueSpec("last")}); err != nil {
		t.Fatal(err)
	}
	if !q.db.NoFreelistSync {
		t.Errorf("%d free pages are written at each commit", q.db.Stats().FreePageN)
	}
	for range 2 {
		if err := errors.Join(q.Check(ctx), q.Close()); err != nil {
			t.Fatal(err)
		}
		if q, err = Open(ctx, opts); err != nil {
			t.Fatal(err)
		}
		if _, err := q.Submit(ctx, []*task.Spec{trueSpec(fmt.Sprint("again", q.Fence()))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(q.Check(ctx), q.Close()); err != nil {
		t.Fatal(err)
	}
}
