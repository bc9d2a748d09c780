package workers

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// lookEvery is how often is looked after those who may be gone.
const lookEvery = time.Second

// queueFile says which queue the folder of all workers belongs to.
const queueFile = "queue"

// QueueOf reads the id of the queue. The error matches fs.ErrNotExist where there was no
// owner yet that knows of workers.
func QueueOf(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, queueFile))
	return strings.TrimSpace(string(b)), err
}

// Watch reports to sink until ctx ends.
func (b *Backend) Watch(ctx context.Context, active []task.Task, sink func([]task.Change)) error {
	if err := os.MkdirAll(b.opts.Dir, 0o700); err != nil {
		return err
	}
	if err := lease.WriteWhole(filepath.Join(b.opts.Dir, queueFile), []byte(b.opts.QueueID+"\n")); err != nil {
		return err
	}
	b.learn(active)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { b.listen(ctx) })
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for first := true; ; first = false {
		b.stopSome()
		if changes, turned := b.take(); len(changes) > 0 || turned || first {
			sink(changes)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.poke:
		case <-look.C:
			b.lookAround(ctx, &wg)
		}
	}
}

func (b *Backend) take() (changes []task.Change, turned bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changes, turned = b.out, b.turned
	b.out, b.turned = nil, false
	return changes, turned
}

// learn reads who has what.
func (b *Backend) learn(active []task.Task) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.meetAll()
	has := b.readLedgers()
	for _, t := range active {
		ref := t.Ref()
		h, given := has[ref]
		a := &attempt{ref: ref, task: t, stop: t.State() == task.Stopping, since: b.opts.Now()}
		switch {
		case given:
			a.holder, a.lease, a.claimed = h.m, h.lease, t.State() != task.Assigned && t.State() != task.Stopping
			h.m.has[ref] = a
		case t.State() == task.Assigned:
			continue // the engine hands it over again
		case t.State() != task.Stopping:
			b.attempts[ref] = a
			b.end(a, task.EventVanished, task.Vanished, "the folder of the worker that ran it is gone")
			continue
		}
		b.attempts[ref] = a
	}
	b.learned, b.turned = true, true
	b.launch(b.early)
	for _, t := range b.earlyStops {
		b.stop(t)
	}
	b.early, b.earlyStops = nil, nil
	b.measure()
}

// holding is who has an attempt.
type holding struct {
	m     *member
	lease uint64
}

// readLedgers returns who has each attempt. Of two the later lease counts: the former one
// was taken back.
func (b *Backend) readLedgers() map[task.Ref]holding {
	out := map[task.Ref]holding{}
	for _, m := range b.members {
		has, last, err := m.folder.Ledger()
		if err != nil {
			b.opts.Logger.Error("cannot read what a worker was given", "worker", m.id(), "error", err)
			continue
		}
		b.last = max(b.last, last)
		for ref, number := range has {
			if h, ok := out[ref]; (!ok || number > h.lease) && !m.folder.Voided(ref, number) {
				out[ref] = holding{m, number}
			}
		}
	}
	return out
}

// meetAll gets to know the workers whose folders are there. The mutex is held.
func (b *Backend) meetAll() {
	entries, err := os.ReadDir(b.opts.Dir)
	if err != nil {
		b.opts.Logger.Error("cannot look for workers", "dir", b.opts.Dir, "error", err)
		return
	}
	for _, e := range entries {
		if e.IsDir() && lease.IsName(e.Name()) && b.members[e.Name()] == nil {
			b.meet(e.Name())
		}
	}
}

// meet gets to know a worker. The mutex is held.
func (b *Backend) meet(id string) {
	f := lease.FolderOf(b.opts.Dir, id)
	c, err := f.Card()
	if errors.Is(err, fs.ErrNotExist) {
		b.sweep(f) // unless it is about to be made
		return
	}
	if err != nil {
		b.opts.Logger.Warn("cannot read the card of a worker", "worker", id, "error", err)
		return
	}
	m := &member{folder: f, card: c, has: map[task.Ref]*attempt{}, heard: b.opts.Now(), left: f.HasLeft(), serial: 1, inbox: lease.NewInbox(f)}
	b.members[id] = m
	b.keepSecret(m)
	b.opts.Logger.Info("a worker", "worker", id, "host", c.Where.Name, "job", c.Job, "cpus", c.CPUMilli/1000, "gpus", c.GPUs, "until", c.Until)
}

// sweep removes what is left of a folder that never became one.
func (b *Backend) sweep(f lease.Folder) {
	if !f.Unmade(b.opts.Now()) {
		return
	}
	if err := f.Remove(); err != nil {
		b.opts.Logger.Warn("cannot remove what is left of a worker's folder; will try again", "dir", f.Dir, "error", err)
		return
	}
	b.opts.Logger.Info("removed what was left of a worker's folder", "dir", f.Dir)
}

// stopSome ends what is to end and has not begun, and has workers end the rest.
func (b *Backend) stopSome() {
	b.mu.Lock()
	var held []*attempt
	for _, a := range b.attempts {
		switch {
		case !a.stop || a.ended || a.claimed || a.giving:
		case a.holder == nil:
			b.end(a, task.EventStopped, task.NoFailure, "")
		default:
			held = append(held, a)
		}
	}
	b.mu.Unlock()
	for _, a := range held {
		b.stopHeld(a)
	}
}

func (b *Backend) stopHeld(a *attempt) {
	b.mu.Lock()
	m, number := a.holder, a.lease
	b.mu.Unlock()
	if m == nil {
		return
	}
	void, err := m.folder.Void(a.ref, number)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.opts.Logger.Warn("cannot take a task back from its worker; will try again", "worker", m.id(), "task", a.ref.Seq, "error", err)
		return
	}
	if a.holder != m || a.lease != number || a.ended {
		return
	}
	if void {
		b.end(a, task.EventStopped, task.NoFailure, "")
		return
	}
	a.claimed = true
	b.order(m)
}
