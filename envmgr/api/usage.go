package api

import (
	"context"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

const (
	// usageFor is how long an answer is good for: the engine reads each from the kernel,
	// and there may be thousands of calls.
	usageFor = 2 * time.Second
	// usagePatience bounds how long a status waits for it.
	usagePatience = 2 * time.Second
	// usageForgotten is when that of a container is let go of about which nobody asks.
	usageForgotten = time.Minute
)

// usage knows what containers use, as of a moment ago.
type usage struct {
	engine Engine
	now    func() time.Time

	mu  sync.Mutex
	all map[string]*reading // by container
}

// reading is what was read last of a container.
type reading struct {
	// turn is held by who reads; what follows is guarded by it.
	turn    chan struct{}
	at      time.Time
	err     error
	is      docker.Usage
	read    time.Time // when is was
	percent float64   // of one CPU, between the last two that were read

	asked time.Time // guarded by usage.mu
}

func newUsage(e Engine, now func() time.Time) *usage {
	return &usage{engine: e, now: now, all: map[string]*reading{}}
}

// of returns what a container uses, that began at a time; false when that cannot be told.
func (u *usage) of(ctx context.Context, id string, began time.Time) (is docker.Usage, percent float64, ok bool) {
	r := u.reading(id)
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return docker.Usage{}, 0, false
	}
	if u.now().Sub(r.at) >= usageFor {
		u.read(ctx, id, began, r)
	}
	return r.is, r.percent, r.err == nil
}

// read asks the engine, for all who wait for it: that one of them goes away is no answer to
// the others. That the engine does not answer is remembered like an answer.
func (u *usage) read(ctx context.Context, id string, began time.Time, r *reading) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), usagePatience)
	defer cancel()
	next, err := u.engine.Usage(ctx, id)
	now := u.now()
	r.at, r.err = now, err
	if err != nil {
		return
	}
	before, since := r.is.CPU, r.read
	if since.Before(began) {
		before, since = 0, began
	}
	if wall := now.Sub(since); wall > 0 && next.CPU >= before {
		r.percent = float64(next.CPU-before) / float64(wall) * 100
	}
	r.is, r.read = next, now
}

// reading returns the one of a container, and lets go of those that nobody asks about.
func (u *usage) reading(id string) *reading {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.now()
	r := u.all[id]
	if r == nil {
		for other, o := range u.all {
			if now.Sub(o.asked) > usageForgotten {
				delete(u.all, other)
			}
		}
		r = &reading{turn: make(chan struct{}, 1)}
		u.all[id] = r
	}
	r.asked = now
	return r
}
