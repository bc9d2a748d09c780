package api

import (
	"context"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// growingLog is an event log in memory.
type growingLog struct {
	mu      sync.Mutex
	records []task.Record
	grown   chan struct{}
}

func newGrowingLog() *growingLog { return &growingLog{grown: make(chan struct{})} }

func (l *growingLog) append(r task.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Index = uint64(len(l.records) + 1)
	l.records = append(l.records, r)
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *growingLog) LastIndex() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.records))
}

func (l *growingLog) Records(from uint64, limit int) ([]task.Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := min(int(max(from, 1))-1, len(l.records))
	return slices.Clone(l.records[i:min(i+limit, len(l.records))]), nil
}

func (l *growingLog) WaitRecords(ctx context.Context, after uint64) error {
	for l.LastIndex() <= after {
		l.mu.Lock()
		grown := l.grown
		there := uint64(len(l.records)) > after
		l.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// TestFeedMissesAndRepeatsNothing has followers of every kind begin anywhere in
// a log that grows meanwhile: each must take, in order and once, every record
// behind its place that it wants.
func TestFeedMissesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const tasks = 4
		record := rapid.Custom(func(t *rapid.T) task.Record {
			return task.Record{
				Seq: task.Seq(rapid.IntRange(1, tasks).Draw(t, "seq")),
				To:  rapid.SampledFrom([]task.State{task.Running, task.Succeeded}).Draw(t, "to"),
			}
		})
		before := rapid.SliceOfN(record, 0, 20).Draw(t, "before")
		after := rapid.SliceOfN(record, 1, 600).Draw(t, "after")
		last := task.Record{Seq: 99, To: task.Succeeded} // what every follower ends with
		l := newGrowingLog()
		for _, r := range before {
			l.append(r)
		}
		f := newFeed(l)
		f.begin()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- f.follow(ctx) }()

		var followers sync.WaitGroup
		for range rapid.IntRange(1, 8).Draw(t, "followers") {
			in := interest{
				every: rapid.Bool().Draw(t, "every"), ends: rapid.Bool().Draw(t, "ends"),
				seqs: append(rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) task.Seq {
					return task.Seq(rapid.IntRange(1, tasks).Draw(t, "s"))
				}), 0, tasks, rapid.ID[task.Seq]).Draw(t, "seqs"), last.Seq),
			}
			at := uint64(rapid.IntRange(0, len(before)).Draw(t, "at"))
			followers.Go(func() { checkFollower(ctx, t, f, in, at) })
		}
		for _, r := range after {
			l.append(r)
		}
		l.append(last)
		followers.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(f.every)+len(f.ends)+len(f.bySeq) != 0 {
			t.Error("a subscription was left")
		}
	})
}

func checkFollower(ctx context.Context, t *rapid.T, f *feed, in interest, at uint64) {
	sub := f.subscribe(at, in)
	defer sub.close()
	wants := func(r task.Record) bool {
		return in.every || in.ends && r.Ended() || slices.Contains(in.seqs, r.Seq)
	}
	var got []uint64
	for {
		records, err := sub.next(ctx)
		if err != nil {
			t.Errorf("next: %v", err)
			return
		}
		for _, r := range records {
			if wants(r) {
				got = append(got, r.Index)
			}
		}
		if records[len(records)-1].Seq == 99 {
			break
		}
	}
	all, _ := f.log.Records(at+1, 1<<20)
	var want []uint64
	for _, r := range all {
		if wants(r) {
			want = append(want, r.Index)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("from %d on, wanting %+v: took %v, want %v", at, in, got, want)
	}
}

// TestFeedWakesOnlyForWhatIsWanted holds what the feed is for.
func TestFeedWakesOnlyForWhatIsWanted(t *testing.T) {
	t.Parallel()
	f := newFeed(newGrowingLog())
	sub := f.subscribe(0, interest{ends: true, seqs: []task.Seq{7}})
	defer sub.close()
	for i, tc := range []struct {
		record task.Record
		wakes  bool
	}{
		{task.Record{Seq: 1, To: task.Running}, false},
		{task.Record{Seq: 1, To: task.Failed, Again: true}, false},
		{task.Record{Seq: 1, To: task.Failed}, true},
		{task.Record{Seq: 7, To: task.Running}, true},
	} {
		tc.record.Index = uint64(i + 1)
		f.distribute([]task.Record{tc.record})
		woken := false
		select {
		case <-sub.wake:
			woken = true
		default:
		}
		if woken != tc.wakes {
			t.Errorf("record %d: woken %t, want %t", i, woken, tc.wakes)
		}
	}
}

// TestFeedSurvivesAGap has retention overtake the feed: who waits must be woken
// all the same, since the record of his task may be among the lost ones.
func TestFeedSurvivesAGap(t *testing.T) {
	t.Parallel()
	l := &fadingLog{first: 1, last: 5}
	f := newFeed(l)
	f.begin()
	changed, forget := f.watch(3)
	sub := f.subscribe(4, interest{ends: true})
	l.first, l.last = 10, 20
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.follow(ctx) }()
	<-changed
	forget()
	if _, err := sub.next(ctx); !isGap(err) {
		t.Errorf("a follower behind the gap is told %v", err)
	}
	sub.close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(f.ends)+len(f.bySeq) != 0 {
		t.Error("a subscription was left")
	}
}
