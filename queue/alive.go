package queue

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
)

// SignOfLife is for how long a living owner is looked at until it has shown itself, with
// some beats to spare.
const SignOfLife = 6 * time.Second

// OwnerLives says whether whoever has the queue is alive: it is under this kernel, which
// would have let go of its lock, or it gives a sign of life within that time. Nothing is
// written. tell is called after each look that has seen nothing, with
// the time that is left.
func (e *LockedError) OwnerLives(ctx context.Context, within time.Duration, tell func(o *Owner, left time.Duration)) (bool, error) {
	if e.Owner == nil || e.Alive {
		return true, nil // who is not named has the lock itself
	}
	if here, err := host.This(); err == nil && here.Boot == e.Owner.BootID {
		return true, nil
	}
	first, err := readBeat(e.Dir)
	if err != nil {
		return false, fmt.Errorf("look for a sign of life of the owner: %w", err)
	}
	look := time.NewTicker(within / 12)
	defer look.Stop()
	over := time.NewTimer(within)
	defer over.Stop()
	end := time.Now().Add(within)
	for {
		last := false
		select {
		case <-look.C:
		case <-over.C:
			last = true
		case <-ctx.Done():
			return false, ctx.Err()
		}
		now, err := readBeat(e.Dir)
		if err != nil {
			return false, fmt.Errorf("look for a sign of life of the owner: %w", err)
		}
		if now != first || last {
			return now != first, nil
		}
		tell(e.Owner, time.Until(end))
	}
}

// Heard returns when the owner of a queue has last shown that it is alive, by the clock of
// whatever the folder is on; zero = it cannot be told. It is for people: who decides looks
// whether the sign changes.
func Heard(dir string) time.Time {
	info, err := os.Stat(filepath.Join(dir, beatFile))
	if err != nil {
		return databaseWritten(dir)
	}
	return info.ModTime()
}
