package process

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// lookout looks what supervisors on other hosts write into the spool. It is used by one
// goroutine.
type lookout struct {
	b      *Backend
	spools map[string]*foreignSpool
	began  time.Time
	now    time.Time // of the present look
	blind  error     // why it was not seen who there is; nil = it was
	said   map[string]string
}

// lookout looks as long as there is something to see.
func (b *Backend) lookout(ctx context.Context, deliver func([]task.Change)) {
	l := &lookout{b: b, spools: map[string]*foreignSpool{}, began: time.Now(), said: map[string]string{}}
	pause := b.opts.LookEvery
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.outlook:
		case <-timer.C:
		}
		moved, left := l.look(ctx, deliver)
		if !left {
			return
		}
		pause = min(2*pause, lookLess*b.opts.LookEvery)
		if moved {
			pause = b.opts.LookEvery
		}
		timer.Reset(pause)
	}
}

// look looks once. moved says that it is worth while to look again soon, left that it is
// at all.
func (l *lookout) look(ctx context.Context, deliver func([]task.Change)) (moved, left bool) {
	b := l.b
	distant, inherited := b.abroad()
	l.now = time.Now()
	l.readSpools()
	var begin []*inheritance
	b.unread.turn.Lock()
	var changes []task.Change
	for _, ref := range slices.SortedFunc(maps.Keys(inherited), byAge) {
		more, here := l.inherit(ref, inherited[ref])
		changes = append(changes, more...)
		if here {
			begin = append(begin, inherited[ref])
		}
	}
	for _, ref := range slices.SortedFunc(maps.Keys(distant), byAge) {
		changes = append(changes, l.follow(ref, distant[ref])...)
	}
	if len(changes) > 0 {
		deliver(changes)
	}
	b.unread.turn.Unlock()
	b.beginHere(ctx, begin)
	distant, inherited = b.abroad()
	if len(inherited) == 0 {
		l.dropTraces()
	}
	return len(changes) > 0 || b.waits(distant, inherited), len(distant)+len(inherited) > 0
}

// abroad returns what is not known to be here.
func (b *Backend) abroad() (map[task.Ref]*distantAttempt, map[task.Ref]*inheritance) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.distant), maps.Clone(b.inherited)
}

// hopeful is for how many looks an answer is soon to be expected.
const hopeful = 15

// waits says whether somebody waits for what comes next.
func (b *Backend) waits(distant map[task.Ref]*distantAttempt, inherited map[task.Ref]*inheritance) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range distant {
		if d.stop {
			return true
		}
	}
	for _, in := range inherited {
		if in.looks < hopeful {
			return true
		}
	}
	return false
}

// readSpools reads what there is now. Traces count that were there when we came: the
// queue is ours since, and nobody else hands over anything.
func (l *lookout) readSpools() {
	b := l.b
	if b.shared && len(l.spools) == 0 {
		lookAgain(b.opts.SpoolDir)
	}
	dirs, err := foreignSpools(b.opts.SpoolDir, b.spool, b.former, b.id)
	if err != nil {
		l.blind = err
		return
	}
	known := l.spools
	l.spools, l.blind = map[string]*foreignSpool{}, nil
	for _, dir := range dirs {
		f := known[dir]
		if f == nil {
			f = &foreignSpool{dir: dir, heard: l.now}
		}
		l.spools[dir] = f
		if err := f.findTraces(b.shared); err != nil {
			l.blind = err
		}
		l.note(dir, f.look(l.now))
	}
}

// findTraces looks, once, whether something was handed over to the supervisor.
func (f *foreignSpool) findTraces(shared bool) error {
	if f.traced {
		return nil
	}
	if shared {
		lookAgain(f.dir)
	}
	traces, err := handOversIn(f.dir)
	if err != nil {
		return err
	}
	f.traces, f.traced = traces, true
	return nil
}

// note logs why something cannot be done in a spool, once.
func (l *lookout) note(dir string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && l.said[dir] != text {
		l.b.opts.Logger.Info("what another host writes into the spool cannot be read, or it cannot be asked", "dir", dir, "error", err)
	}
	l.said[dir] = text
}

// ask asks a supervisor for something; false if that was not possible.
func (l *lookout) ask(f *foreignSpool, r request) bool {
	err := r.put(f.dir)
	if err != nil {
		l.note(f.dir, err)
	}
	return err == nil
}

// askable returns those to which owners before us have handed over something.
func (l *lookout) askable() (out []*foreignSpool) {
	for _, dir := range slices.Sorted(maps.Keys(l.spools)) {
		if len(l.spools[dir].traces) > 0 {
			out = append(out, l.spools[dir])
		}
	}
	return out
}

// dropTraces removes the traces of those who have answered for all.
func (l *lookout) dropTraces() {
	if l.blind != nil {
		return
	}
	for _, f := range l.askable() {
		err := removeTraces(f.dir, f.traces)
		l.note(f.dir, err)
		if err == nil {
			f.traces = nil
		}
	}
}

// find returns the spool of the supervisor that has a distant attempt, and what is known
// of it: from there, or from one that took over its journal after a restart of the
// machine.
func (l *lookout) find(ref task.Ref, h handle) (at *foreignSpool, found *fact) {
	for _, dir := range slices.Sorted(maps.Keys(l.spools)) {
		f := l.spools[dir]
		fact := f.facts[ref]
		switch {
		case f.isOf(h):
			at = f
			if found == nil && (fact.begun() || fact.refused() && fact.end.GetRecalledBy() == 0) {
				found = fact
			}
		case fact.begun() && fact.end != nil:
			found = fact
			if at == nil {
				at = f
			}
		}
	}
	return at, found
}
