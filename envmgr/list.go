package envmgr

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// lister has those who ask for a list of all containers at the same time share one, which
// begins after each of them has asked: one from before may lack what was done since.
type lister struct {
	turn chan struct{} // has one while the engine is asked

	mu   sync.Mutex
	next *listing // which has not begun
}

// listing is one answer of the engine. done is closed when there is one.
type listing struct {
	done chan struct{}
	all  []docker.Listed
	err  error
}

// list is what containers there are.
func (s *Supervisor) list(ctx context.Context) ([]docker.Listed, error) {
	for {
		one, mine := s.lists.join()
		if mine {
			one.all, one.err = s.lead(ctx)
			close(one.done)
		}
		select {
		case <-one.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if gaveUp := errors.Is(one.err, context.Canceled) || errors.Is(one.err, context.DeadlineExceeded); mine || !gaveUp {
			return one.all, one.err
		} // who asked for all of us gave up, and we did not
	}
}

// join returns the next listing; mine says that the caller is to make it.
func (l *lister) join() (one *listing, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if mine = l.next == nil; mine {
		l.next = &listing{done: make(chan struct{})}
	}
	return l.next, mine
}

// lead asks the engine, for all who have joined by then.
func (s *Supervisor) lead(ctx context.Context) ([]docker.Listed, error) {
	var wait error
	select {
	case s.lists.turn <- struct{}{}:
		defer func() { <-s.lists.turn }()
	case <-ctx.Done():
		wait = ctx.Err()
	}
	s.lists.mu.Lock()
	s.lists.next = nil // who asks from now on waits for the one after
	s.lists.mu.Unlock()
	if wait != nil {
		return nil, wait
	}
	all, err := s.opts.Engine.List(ctx)
	if err == nil {
		s.tellStrays(strays(s.opts.Set, s.opts.Site, all))
	}
	return all, err
}

// tellStrays notes the containers of ours that nobody cares for, and says so once of each.
func (s *Supervisor) tellStrays(names []string) {
	s.mu.Lock()
	before := s.strays
	s.strays = names
	s.mu.Unlock()
	for _, name := range names {
		if !slices.Contains(before, name) {
			s.opts.Logger.Warn("a container is of a service that is not defined any more, and nobody cares for it; docker rm -f ends it, its volumes stay", "container", name)
		}
	}
}

func (s *Supervisor) knownStrays() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.strays
}
