package container

import (
	"context"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// A container may be left that no task needs: the daemon was killed between its end and
// Forget, or while the engine made it. It carries our queue's id, or it would not be
// looked at.

// stray is a container that no run belongs to.
type stray struct {
	ref  task.Ref
	seen time.Time // when it was seen first
}

// noteStrays takes note of them. The mutex is held.
func (b *Backend) noteStrays(there []docker.Listed) {
	found := map[string]stray{}
	for _, c := range there {
		ref, ours := refOf(b.opts.QueueID, c.Labels)
		if _, known := b.runs[ref]; !ours || known {
			continue
		}
		s, before := b.strays[c.ID]
		if !before {
			s = stray{ref: ref, seen: b.opts.Now()}
		}
		found[c.ID] = s
	}
	b.strays = found
}

// sweep removes strays that nobody has asked for during the grace.
func (b *Backend) sweep(ctx context.Context) {
	tick := time.NewTicker(b.opts.LeftoverGrace / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for id, s := range b.ripe() {
			needed, err := b.opts.Needed(s.ref)
			if err != nil || needed || b.opts.Confirm() != nil {
				continue
			}
			b.removeStray(ctx, id, s.ref)
		}
	}
}

// ripe returns those whose grace is over.
func (b *Backend) ripe() map[string]stray {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]stray{}
	for id, s := range b.strays {
		if _, known := b.runs[s.ref]; known {
			delete(b.strays, id)
			continue
		}
		if b.opts.Now().Sub(s.seen) >= b.opts.LeftoverGrace {
			out[id] = s
		}
	}
	return out
}

func (b *Backend) removeStray(ctx context.Context, id string, ref task.Ref) {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	if err := b.engine.Remove(ctx, id); err != nil {
		b.opts.Logger.Warn("cannot remove a container that no task needs", "container", id, "task", ref.Seq, "error", err)
		return
	}
	b.removeFiles(ref)
	b.mu.Lock()
	delete(b.strays, id)
	b.mu.Unlock()
	b.opts.Logger.Info("removed a container that no task needs", "container", id, "task", ref.Seq, "attempt", ref.Attempt)
}
