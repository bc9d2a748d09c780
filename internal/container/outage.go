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
	// after it came back it ends those that it finds.
	outageBefore = 20 * time.Second
	outageAfter  = 15 * time.Second
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

// endedWithEngine says whether a container that was killed has ended by the hand of its
// engine: while that went, was away, or came back.
func (b *Backend) endedWithEngine(c docker.Container) bool {
	killed := []int{killedCode, 128 + int(syscall.SIGTERM), 255} // 255: the engine did not see it
	if !slices.Contains(killed, c.ExitCode) || c.OOM {
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
