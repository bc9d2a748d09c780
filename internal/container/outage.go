package container

import (
	"slices"
	"syscall"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// An engine that ends, or is killed and comes back, ends its containers, unless it is
// told to let them live (live-restore). How they end looks like an end of their own:
// only the time tells.

// outage is a time in which the engine did not answer.
type outage struct{ from, to time.Time }

const (
	// mostOutages are remembered.
	mostOutages = 16
	// Before an engine is gone it ends containers, and is given some seconds for it;
	// after it came back it ends those that it finds, which takes longer the more it
	// has to do. One that is stopping breaks off its calls first, and may take some more.
	outageBefore = 20 * time.Second
	outageAfter  = time.Minute
	// outagePatience is how long an engine may take to be gone that has begun to end
	// its containers, or to remove one that it has killed. Who ends one by hand is told of it
	// as much later.
	outagePatience = 5 * time.Second
)

// noteOutage takes note that the engine is back. The mutex is held.
func (b *Backend) noteOutage() {
	if b.lost.IsZero() {
		return
	}
	b.outages = append(b.outages, outage{b.lost, b.opts.Now()})
	b.outages = b.outages[max(0, len(b.outages)-mostOutages):]
	b.lost = time.Time{}
}

// killedByOthers says whether a container looks as if somebody else has ended it.
func killedByOthers(c docker.Container) bool {
	killed := []int{killedCode, 128 + int(syscall.SIGTERM)}
	return slices.Contains(killed, c.ExitCode) && !c.OOM
}

// endedWithEngine says whether a container that was killed has ended by the hand of its
// engine: while that went, was away, or came back.
func (b *Backend) endedWithEngine(c docker.Container) bool {
	if !killedByOthers(c) {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.outages
	if !b.lost.IsZero() {
		all = append(slices.Clone(all), outage{b.lost, b.opts.Now()})
	}
	return slices.ContainsFunc(all, func(o outage) bool {
		return c.Finished.After(o.from.Add(-outageBefore)) && c.Finished.Before(o.to.Add(outageAfter))
	})
}

// outageLeft is how much longer it may turn out that somebody has ended the container in a
// larger matter: that its engine goes, or that it is removed. Events wake us before that is
// over, so that it counts from the first look.
func (r *run) outageLeft() time.Duration {
	now := r.b.opts.Now()
	if r.outageUntil.IsZero() {
		r.outageUntil = now.Add(outagePatience)
	}
	return r.outageUntil.Sub(now)
}
