package workers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Bounds of calls: one that waits longer may have lost its caller.
const (
	longestWait = 30 * time.Second
	mostAtOnce  = 4096
	// storePatience is how long an answer waits for ends to be stored. The worker asks
	// again, with what has come meanwhile.
	storePatience = 250 * time.Millisecond
)

// caller finds the worker that calls, and notes that it lives. The mutex is held.
func (b *Backend) caller(id string) (*member, error) {
	if !b.learned {
		return nil, task.Errorf(task.CodeUnavailable, "the daemon has just started, and reads who its workers are; ask again")
	}
	m := b.members[id]
	if m == nil && lease.IsName(id) {
		b.meet(id)
		m = b.members[id]
	}
	if m == nil {
		return nil, task.Errorf(task.CodeNotFound, "there is no worker %q: it has no folder in %s, or was taken for gone and its tasks were looked after", id, b.opts.Dir)
	}
	m.heard, m.called = b.opts.Now(), true
	if m.silent {
		m.silent = false
		b.opts.Logger.Info("a worker is heard again", "worker", id)
	}
	return m, nil
}

// Lease hands out attempts.
func (b *Backend) Lease(ctx context.Context, w lease.Want) (lease.Grant, error) {
	late := time.NewTimer(min(w.Wait, longestWait))
	defer late.Stop()
	number := uint64(0) // of this call
	for over := false; ; {
		l, err := b.look(w, &number)
		switch {
		case err != nil:
			return lease.Grant{}, err
		case len(l.picked) > 0:
			return b.give(l.m, l.lease, l.picked)
		case len(l.again.Tasks) > 0 || l.followed || over:
			return l.again, nil
		}
		select {
		case <-l.news:
		case <-late.C:
			over = true
		case <-ctx.Done():
			return lease.Grant{}, ctx.Err()
		}
	}
}

// look is what a call of Lease sees.
type look struct {
	m        *member
	followed bool        // by a later call, so that nobody hears the answer
	again    lease.Grant // what was granted before, and did not arrive
	picked   []*attempt  // else what is to be granted, under this number
	lease    uint64
	news     <-chan struct{} // else when to look again
}

func (b *Backend) look(w lease.Want, number *uint64) (l look, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, err := b.caller(w.Worker)
	if err != nil {
		return l, err
	}
	if *number == 0 {
		m.asking++
		*number = m.asking
		b.changed() // one that still waits has nobody to answer
	}
	l.m, l.followed, l.news = m, m.asking != *number, b.news
	if l.followed {
		return l, nil
	}
	if l.again = m.lost(w.Seen); len(l.again.Tasks) > 0 {
		return l, nil
	}
	m.hold = min(max(w.Hold, 0), mostAtOnce)
	b.measure()
	if m.giving == 0 { // else a later grant could arrive first, and would hide that one
		l.picked, l.lease = b.pick(m, min(w.Room, mostAtOnce))
	}
	return l, nil
}

// lost is the first of the grants that the worker has not seen, without what has begun or
// is to end.
func (m *member) lost(seen uint64) (g lease.Grant) {
	for _, a := range m.has {
		if a.lease > seen && a.whole && !a.giving && !a.claimed && !a.stop && !a.ended && (g.Lease == 0 || a.lease < g.Lease) {
			g.Lease = a.lease
		}
	}
	if g.Lease == 0 {
		return g
	}
	for _, a := range m.has {
		if a.lease == g.Lease && a.whole && !a.giving && !a.claimed && !a.stop && !a.ended {
			g.Tasks = append(g.Tasks, a.task)
		}
	}
	slices.SortFunc(g.Tasks, func(x, y task.Task) int { return cmp.Compare(x.Seq, y.Seq) })
	return g
}

// pick takes attempts out of the line for a worker. The mutex is held.
func (b *Backend) pick(m *member, room int) (picked []*attempt, number uint64) {
	if room <= 0 || m.left || m.leave || len(b.line) == 0 {
		return nil, 0
	}
	now, size, full := b.opts.Now(), 0, false
	b.line = slices.DeleteFunc(b.line, func(a *attempt) bool {
		if full || len(picked) >= room || !a.whole || a.stop || a.ended || !m.fits(a.task, now) {
			return a.ended
		}
		size += lease.TaskBytes(a.task)
		if full = len(picked) > 0 && size > lease.MaxBatchBytes; full {
			return false // it comes with the next call
		}
		picked = append(picked, a)
		return true
	})
	if len(picked) == 0 {
		return nil, 0
	}
	b.last = max(b.last+1, uint64(max(0, now.UnixNano())))
	m.giving++
	for _, a := range picked {
		a.holder, a.lease, a.giving = m, b.last, true
		m.has[a.ref] = a
	}
	return picked, b.last
}

// give writes the lease down, and then hands it out.
func (b *Backend) give(m *member, number uint64, picked []*attempt) (lease.Grant, error) {
	refs := make([]task.Ref, len(picked))
	for i, a := range picked {
		refs[i] = a.ref
	}
	m.ledger.Lock()
	err := b.opts.Confirm()
	if err == nil {
		err = b.shorten(m)
	}
	if err == nil {
		err = m.folder.Give(number, refs)
	}
	m.ledger.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	m.giving--
	b.changed()
	if err != nil {
		for _, a := range slices.Backward(picked) {
			b.free(a)
		}
		return lease.Grant{}, fmt.Errorf("the lease of %d tasks cannot be written down, so none was given: %w", len(picked), err)
	}
	g := lease.Grant{Lease: number}
	for _, a := range picked {
		a.giving = false
		if !a.stop { // that is looked after by Watch
			g.Tasks = append(g.Tasks, a.task)
		}
	}
	b.ring()
	return g, nil
}

// shorten begins the ledger of a worker anew where it has grown long: with what the worker
// has, and what is not being written down just now. Its mutex is held.
func (b *Backend) shorten(m *member) error {
	if !m.folder.LedgerIsLong() {
		return nil
	}
	b.mu.Lock()
	has, last := map[task.Ref]uint64{}, b.last
	for ref, a := range m.has {
		if !a.giving {
			has[ref] = a.lease
		}
	}
	b.mu.Unlock()
	return m.folder.Rewrite(has, last)
}

// Extend returns a worker's orders.
func (b *Backend) Extend(ctx context.Context, h lease.Hold) (lease.Orders, error) {
	if err := b.compare(h); err != nil {
		return lease.Orders{}, err
	}
	late := time.NewTimer(min(h.Wait, longestWait))
	defer late.Stop()
	for over := false; ; {
		b.mu.Lock()
		m, err := b.caller(h.Worker)
		if err != nil {
			b.mu.Unlock()
			return lease.Orders{}, err
		}
		o, news := m.orders(), b.news
		b.mu.Unlock()
		if over || o.Serial != h.Seen {
			return o, nil
		}
		select {
		case <-news:
		case <-late.C:
			over = true
		case <-ctx.Done():
			return lease.Orders{}, ctx.Err()
		}
	}
}

// Complete takes reports, and answers when the ends among them are stored.
func (b *Backend) Complete(ctx context.Context, worker string, reports []lease.Report) (settled []task.Ref, err error) {
	b.mu.Lock()
	m, err := b.caller(worker)
	if err != nil {
		b.mu.Unlock()
		return nil, err
	}
	ending, settled := b.takeIn(m, reports)
	b.mu.Unlock()
	b.returned(m, reports)
	late := time.NewTimer(storePatience)
	defer late.Stop()
	for {
		b.mu.Lock()
		ending = slices.DeleteFunc(ending, func(ref task.Ref) bool {
			a := b.attempts[ref]
			gone := a == nil || a.holder != m
			if gone {
				settled = append(settled, ref)
			}
			return gone
		})
		news := b.news
		b.mu.Unlock()
		if len(ending) == 0 {
			return settled, nil
		}
		select {
		case <-news:
		case <-late.C:
			return settled, nil
		case <-ctx.Done():
			return settled, ctx.Err()
		}
	}
}

// takeIn takes in what is about attempts that the worker has. The mutex is held.
func (b *Backend) takeIn(m *member, reports []lease.Report) (ending, settled []task.Ref) {
	for _, r := range reports {
		a := m.has[r.Ref]
		if a == nil || a.lease != r.Lease {
			settled = append(settled, r.Ref) // it was given on, or its end is stored
			continue
		}
		b.tell(a, r.Changes...)
		if a.ended {
			ending = append(ending, r.Ref)
		}
	}
	return ending, settled
}

// returned lets attempts wait again that the worker gives back.
func (b *Backend) returned(m *member, reports []lease.Report) {
	back := map[uint64][]task.Ref{}
	b.mu.Lock()
	for _, r := range reports {
		if a := m.has[r.Ref]; r.Returned && a != nil && a.lease == r.Lease && !a.ended && !a.begun() {
			back[r.Lease] = append(back[r.Lease], r.Ref)
		}
	}
	b.mu.Unlock()
	b.takeBack(m, back)
}

// takeBack notes that the worker has attempts no more, which it will not begin, and lets
// them wait, in the order in which they came.
func (b *Backend) takeBack(m *member, back map[uint64][]task.Ref) {
	if len(back) == 0 {
		return
	}
	for number, refs := range back {
		m.ledger.Lock()
		err := m.folder.TakeBack(number, refs)
		m.ledger.Unlock()
		if err != nil {
			// The claims, and the numbers of later leases, say as much.
			b.opts.Logger.Warn("cannot note that a worker has given tasks back", "worker", m.id(), "error", err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var freed []*attempt
	for number, refs := range back {
		for _, ref := range refs {
			if a := m.has[ref]; a != nil && a.lease == number && !a.ended {
				freed = append(freed, a)
			}
		}
	}
	slices.SortFunc(freed, func(x, y *attempt) int { return cmp.Compare(y.ref.Seq, x.ref.Seq) }) // each goes before the last
	for _, a := range freed {
		b.free(a)
	}
}
