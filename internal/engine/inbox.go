package engine

import (
	"context"
	"slices"
	"sync"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// inboxRoom is how many reports may wait for the loop before backends that
// bring more have to wait, too.
const inboxRoom = 16384

// inbox holds what backends have reported until the loop takes it, all at once:
// while one commit is written, the next collects. A backend need not know when
// its report is on disk; Forget tells it.
type inbox struct {
	mu      sync.Mutex
	changes []task.Change
	filled  chan struct{} // of capacity 1: there is something
	room    chan struct{} // closed when there is room again; nil while nobody waits
}

func newInbox() *inbox { return &inbox{filled: make(chan struct{}, 1)} }

// put adds reports in order. It waits while there is no room, and gives up when
// ctx ends.
func (b *inbox) put(ctx context.Context, changes []task.Change) {
	for {
		b.mu.Lock()
		if len(b.changes) < inboxRoom {
			b.changes = append(b.changes, changes...)
			b.mu.Unlock()
			b.ring()
			return
		}
		if b.room == nil {
			b.room = make(chan struct{})
		}
		room := b.room
		b.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return
		}
	}
}

func (b *inbox) ring() {
	select {
	case b.filled <- struct{}{}:
	default:
	}
}

// take empties the inbox.
func (b *inbox) take() []task.Change {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.changes
	b.changes = nil
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
	return out
}

// any says whether something waits to be taken.
func (b *inbox) any() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.changes) > 0
}

// putBack returns reports that could not be committed, before what came since.
// It does not ring: the loop comes back by itself, after a pause.
func (b *inbox) putBack(changes []task.Change) {
	if len(changes) == 0 {
		return
	}
	b.mu.Lock()
	b.changes = append(slices.Clip(changes), b.changes...)
	b.mu.Unlock()
}
