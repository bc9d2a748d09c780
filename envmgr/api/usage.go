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

// reading is what was read last of a container. Who holds its mutex reads.
type reading struct {
	mu      sync.Mutex
	at      time.Time
	is      docker.Usage
	percent float64 // of one CPU, between the last two readings
	err     error
	asked   time.Time // guarded by usage.mu
}

func newUsage(e Engine, now func() time.Time) *usage {
	return &usage{engine: e, now: now, all: map[string]*reading{}}
}

// of returns what a container uses, that began at a time; false when that cannot be told.
func (u *usage) of(ctx context.Context, id string, began time.Time) (is docker.Usage, percent float64, ok bool) {
	r := u.reading(id)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := u.now()
	if now.Sub(r.at) < usageFor {
		return r.is, r.percent, r.err == nil
	}
	ctx, cancel := context.WithTimeout(ctx, usagePatience)
	defer cancel()
	before, since := r.is.CPU, r.at
	if since.Before(began) {
		before, since = 0, began
	}
	next, err := u.engine.Usage(ctx, id)
	if r.err = err; err == nil {
		r.is = next
	}
	if wall := now.Sub(since); err == nil && wall > 0 && next.CPU >= before {
		r.percent = float64(next.CPU-before) / float64(wall) * 100
	}
	r.at = now
	return r.is, r.percent, err == nil
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
		r = &reading{}
		u.all[id] = r
	}
	r.asked = now
	return r
}
