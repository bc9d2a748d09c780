package api

import (
	"context"
	"fmt"
	"sync"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// feed follows the event log once for all who wait for something in it, and
// wakes each of them only for records that it wants. A thousand streams that
// each waited for every record would be woken by every commit, and what they
// cost would come on top of the commit.
//
// It hands out no records itself: whoever is woken reads them, at its own pace,
// from the log, which keeps the latest in memory. So a slow reader holds up
// nobody, and there is nothing here that could overflow.
type feed struct {
	log Log

	mu    sync.Mutex
	seen  uint64 // the last record that was looked at
	every map[*subscription]struct{}
	ends  map[*subscription]struct{}
	bySeq map[task.Seq]map[*subscription]struct{}
}

func newFeed(log Log) *feed {
	return &feed{
		log: log, every: map[*subscription]struct{}{}, ends: map[*subscription]struct{}{},
		bySeq: map[task.Seq]map[*subscription]struct{}{},
	}
}

// interest says which records a subscription is woken for.
type interest struct {
	every bool       // all of them
	ends  bool       // those that end a task
	seqs  []task.Seq // all of these tasks
}

// subscription is one follower's place in the feed. It is used by one goroutine,
// which calls close.
type subscription struct {
	feed *feed
	in   interest
	// wake gets a value when there is something to take. Several records may share one.
	wake chan struct{}

	// Guarded by feed.mu.
	after uint64 // records up to here are taken, or were never wanted
	from  uint64 // the oldest record that is wanted and was not taken; 0 = none
}

// subscribe begins behind the record at after, which need not be the newest.
func (f *feed) subscribe(after uint64, in interest) *subscription {
	s := &subscription{feed: f, in: in, wake: make(chan struct{}, 1), after: after}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.each(in, func(set map[*subscription]struct{}) { set[s] = struct{}{} })
	if after < f.seen {
		s.want(after + 1)
	}
	return s
}

// watch wakes its caller after something happened to the task from now on. The
// caller calls forget.
func (f *feed) watch(seq task.Seq) (changed <-chan struct{}, forget func()) {
	s := f.subscribe(f.log.LastIndex(), interest{seqs: []task.Seq{seq}})
	return s.wake, s.close
}

// each calls do with every set that a subscription of the interest is in. The
// caller holds the lock.
func (f *feed) each(in interest, do func(map[*subscription]struct{})) {
	if in.every {
		do(f.every)
	}
	if in.ends {
		do(f.ends)
	}
	for _, seq := range in.seqs {
		if f.bySeq[seq] == nil {
			f.bySeq[seq] = map[*subscription]struct{}{}
		}
		do(f.bySeq[seq])
		if len(f.bySeq[seq]) == 0 {
			delete(f.bySeq, seq)
		}
	}
}

func (s *subscription) close() {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	s.feed.each(s.in, func(set map[*subscription]struct{}) { delete(set, s) })
}

// want notes that the record at index is to be taken. The caller holds the lock.
func (s *subscription) want(index uint64) {
	if index <= s.after {
		return
	}
	if s.from == 0 {
		s.from = index
	}
	select {
	case s.wake <- struct{}{}:
	default: // it has one to take already
	}
}

// next waits until there is a record that is wanted, and returns it with some
// of those that follow, wanted or not.
func (s *subscription) next(ctx context.Context) ([]task.Record, error) {
	for {
		if from := s.place(); from != 0 {
			c := cursor{log: s.feed.log, at: from - 1}
			records, err := c.ready()
			if err != nil {
				return nil, err
			}
			s.taken(c.at)
			return records, nil
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (s *subscription) place() uint64 {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	return s.from
}

// taken notes that everything up to index was taken.
func (s *subscription) taken(index uint64) {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	s.after = max(s.after, index)
	s.from = 0
	if index < s.feed.seen {
		s.want(index + 1)
	}
}

// begin says that nobody is to be woken for what the log contains already. It is
// called before anybody subscribes.
func (f *feed) begin() { f.seen = f.log.LastIndex() }

// follow wakes the subscriptions for every record that comes, until ctx ends.
func (f *feed) follow(ctx context.Context) error {
	c := cursor{log: f.log, at: f.seen}
	for {
		records, err := c.next(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // whatever ended with the context ended as it should
		}
		switch {
		case isGap(err):
			c.at = f.log.LastIndex()
			f.lost(c.at)
		case err != nil:
			return fmt.Errorf("follow the event log: %w", err)
		}
		f.distribute(records)
	}
}

func (f *feed) distribute(records []task.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range records {
		f.seen = r.Index
		wake := func(set map[*subscription]struct{}) {
			for s := range set {
				s.want(r.Index)
			}
		}
		wake(f.every)
		if r.Ended() {
			wake(f.ends)
		}
		wake(f.bySeq[r.Seq])
	}
}

// lost is for records that retention removed before they were looked at:
// everybody looks for himself, and is told of the gap where he was behind it.
func (f *feed) lost(last uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = last
	wake := func(set map[*subscription]struct{}) {
		for s := range set {
			s.want(s.after + 1)
		}
	}
	wake(f.every)
	wake(f.ends)
	for _, set := range f.bySeq {
		wake(set)
	}
}
