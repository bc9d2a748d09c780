package api

import (
	"context"
	"fmt"
	"sync"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// watchers wake those who wait for one task. One goroutine follows the event log
// for all of them, so that a thousand waiters do not each read every record.
type watchers struct {
	log Log

	mu    sync.Mutex
	bySeq map[task.Seq]map[chan struct{}]struct{}
}

func newWatchers(log Log) *watchers {
	return &watchers{log: log, bySeq: map[task.Seq]map[chan struct{}]struct{}{}}
}

// watch returns a channel that gets a value after something happened to the
// task. Several happenings may share one value. The caller calls forget.
func (w *watchers) watch(seq task.Seq) (changed <-chan struct{}, forget func()) {
	ch := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bySeq[seq] == nil {
		w.bySeq[seq] = map[chan struct{}]struct{}{}
	}
	w.bySeq[seq][ch] = struct{}{}
	return ch, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.bySeq[seq], ch)
		if len(w.bySeq[seq]) == 0 {
			delete(w.bySeq, seq)
		}
	}
}

// follow wakes the watchers for every record after from, until ctx ends.
func (w *watchers) follow(ctx context.Context, from uint64) error {
	c := cursor{log: w.log, at: from}
	for {
		records, err := c.next(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // whatever ended with the context ended as it should
		}
		switch {
		case isGap(err):
			c.at = w.log.LastIndex()
			w.wakeAll()
		case err != nil:
			return fmt.Errorf("follow the event log: %w", err)
		}
		w.wake(records)
	}
}

func (w *watchers) wake(records []task.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range records {
		for ch := range w.bySeq[r.Seq] {
			poke(ch)
		}
	}
}

// wakeAll is for records that were missed: everybody looks for himself.
func (w *watchers) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, chans := range w.bySeq {
		for ch := range chans {
			poke(ch)
		}
	}
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it has one to take already
	}
}
