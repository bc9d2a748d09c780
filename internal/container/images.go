package container

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
)

const (
	// mostPulling is how many images are fetched at a time. An engine fetches the layers
	// of one side by side already.
	mostPulling = 3
	// Pauses between attempts to fetch an image, twice as long each time.
	firstPull = 2 * time.Second
	lastPull  = 2 * time.Minute
	// tellEvery is how often the progress of a pull is told to those who wait.
	tellEvery = 500 * time.Millisecond
)

// images are those that waiting tasks need: each is looked for once, and fetched once,
// for all of them.
type images struct {
	b *Backend

	mu     sync.Mutex
	wanted map[string]*wanted
	table  map[string]scheduler.Image // never changed: replaced
	kick   chan struct{}              // of capacity 1: there is something to begin
	slots  chan struct{}
}

// wanted is one of them.
type wanted struct {
	is     scheduler.Image
	busy   bool // somebody looks for it, or fetches it
	until  time.Time
	pause  time.Duration
	cancel context.CancelFunc
}

func newImages(b *Backend) *images {
	return &images{b: b, wanted: map[string]*wanted{}, table: map[string]scheduler.Image{}, kick: make(chan struct{}, 1), slots: make(chan struct{}, mostPulling)}
}

// Images says of those that were asked for how they are. The map is not changed any
// more.
func (b *Backend) Images() map[string]scheduler.Image {
	b.images.mu.Lock()
	defer b.images.mu.Unlock()
	return b.images.table
}

// want takes a new list of what is needed. What nobody needs any more is not fetched
// to its end.
func (m *images) want(list []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	need := make(map[string]bool, len(list))
	for _, ref := range list {
		need[ref] = true
		if m.wanted[ref] == nil {
			m.wanted[ref] = &wanted{is: scheduler.Image{Why: "is being looked for"}}
		}
	}
	for ref, w := range m.wanted {
		if !need[ref] {
			if w.cancel != nil {
				w.cancel()
			}
			delete(m.wanted, ref)
		}
	}
	m.publish()
	m.ring()
}

// lost takes note that an image which was there is not any more.
func (m *images) lost(ref string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.wanted[ref]; w != nil && !w.busy {
		w.is = scheduler.Image{Why: "is being looked for"}
		m.publish()
		m.ring()
	}
}

// retry has those looked for at once that could not be before.
func (m *images) retry() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.wanted {
		w.until = time.Time{}
	}
	m.ring()
}

// publish makes the table anew. The mutex is held.
func (m *images) publish() {
	table := make(map[string]scheduler.Image, len(m.wanted))
	for ref, w := range m.wanted {
		is := w.is
		is.Busy = !is.Ready && !is.Bad && (w.busy || w.until.IsZero())
		table[ref] = is
	}
	if !maps.Equal(table, m.table) {
		m.table = table
		m.b.turn()
	}
}

func (m *images) ring() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// run begins what is to be begun, until ctx ends and all that was begun has ended.
func (m *images) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.kick:
		case <-timer.C:
		}
		wait := time.Hour
		m.mu.Lock()
		for ref, w := range m.wanted {
			now := m.b.opts.Now()
			switch {
			case w.busy || w.is.Ready || w.is.Bad:
			case now.Before(w.until):
				wait = min(wait, w.until.Sub(now))
			default:
				w.busy = true
				ctx, cancel := context.WithCancel(ctx)
				w.cancel = cancel
				wg.Go(func() {
					defer cancel()
					m.get(ctx, ref, w)
				})
			}
		}
		m.mu.Unlock()
		timer.Reset(wait)
	}
}

// get looks for an image, and fetches it if it is not there.
func (m *images) get(ctx context.Context, ref string, w *wanted) {
	look, cancel := context.WithTimeout(ctx, callPatience)
	_, err := m.b.engine.Image(look, ref)
	cancel()
	if errors.Is(err, docker.ErrNoImage) {
		err = m.pull(ctx, ref, w)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	w.busy, w.cancel = false, nil
	switch now := m.b.opts.Now(); {
	case err == nil:
		w.is, w.pause = scheduler.Image{Ready: true}, 0
	case ctx.Err() != nil:
		w.until = now
	case errors.Is(err, docker.ErrNoImage):
		w.is = scheduler.Image{Bad: true, Why: fmt.Sprintf("does not exist: %s", docker.Words(err))}
	case errors.Is(err, docker.ErrUnauthorised):
		w.is = scheduler.Image{Bad: true, Why: fmt.Sprintf("may not be fetched: %s; log in where the daemon runs (docker login), and submit again", docker.Words(err))}
	case errors.Is(err, docker.ErrInvalid):
		w.is = scheduler.Image{Bad: true, Why: fmt.Sprintf("cannot be fetched: %s", docker.Words(err))}
	default:
		w.pause = min(max(2*w.pause, firstPull), lastPull)
		w.until = now.Add(w.pause)
		w.is = scheduler.Image{Why: fmt.Sprintf("cannot be fetched now (%s); it is tried again within %s", docker.Words(err), w.pause)}
		m.b.opts.Logger.Warn("cannot fetch an image; will try again", "image", ref, "error", err, "wait", w.pause)
	}
	m.publish()
	m.ring()
}

// pull fetches an image when it is its turn.
func (m *images) pull(ctx context.Context, ref string, w *wanted) error {
	m.say(w, "waits for other images to be fetched first")
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	m.say(w, "is being fetched")
	m.b.opts.Logger.Info("fetching an image", "image", ref)
	var last time.Time
	begin := m.b.opts.Now()
	err := m.b.engine.Pull(ctx, ref, func(p docker.Progress) {
		if now := m.b.opts.Now(); p.Total > 0 && now.Sub(last) >= tellEvery {
			last = now
			m.say(w, progressText(p))
		}
	})
	if err == nil {
		m.b.notePulled(ctx, ref)
		m.b.opts.Logger.Info("fetched an image", "image", ref, "took", m.b.opts.Now().Sub(begin))
	}
	return err
}

func (m *images) say(w *wanted, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.is.Why = why
	m.publish()
}

func progressText(p docker.Progress) string {
	if p.Extracting {
		return "was fetched, and is being unpacked"
	}
	return fmt.Sprintf("is being fetched: %.1f of %.1f MB", float64(p.Current)/1e6, float64(p.Total)/1e6)
}
