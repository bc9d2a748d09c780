package workers

import (
	"context"
	"sync"
	"time"
)

// Pauses between two looks at the files through which workers call that have no
// connection: while they do, and while none has for a while.
const (
	listenOften  = 25 * time.Millisecond
	listenSeldom = 500 * time.Millisecond
	listenAfter  = 5 * time.Second
)

// listen answers calls through files until ctx ends.
func (b *Backend) listen(ctx context.Context) {
	var answering sync.WaitGroup
	defer answering.Wait()
	var last time.Time // when one called
	for {
		pause := listenSeldom
		if b.hear(ctx, &answering) {
			last = b.opts.Now()
		}
		if b.opts.Now().Sub(last) < listenAfter {
			pause = listenOften
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// hear takes in what is new.
func (b *Backend) hear(ctx context.Context, answering *sync.WaitGroup) (some bool) {
	b.mu.Lock()
	members := make([]*member, 0, len(b.members))
	for _, m := range b.members {
		members = append(members, m)
	}
	b.mu.Unlock()
	for _, m := range members {
		calls, err := m.inbox.Calls()
		if err != nil {
			b.opts.Logger.Debug("cannot read what a worker asks", "worker", m.id(), "error", err)
		}
		for _, c := range calls {
			some = true
			answering.Go(func() {
				r := b.opts.Answer(ctx, only{b, m.id()}, c)
				r.ID = c.ID
				if err := m.inbox.Reply(r); err != nil {
					b.opts.Logger.Warn("cannot answer a worker; it asks again", "worker", m.id(), "error", err)
				}
			})
		}
	}
	return some
}
