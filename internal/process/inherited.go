package process

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// An attempt that was placed by an owner before us, and that is not known to have
// begun, may wait in the line of a supervisor on another host: its owner may have handed
// it over just before it went. It begins here only when each supervisor that may have it
// has said that it does not begin there, or has ended in order without having begun it.
// That time has passed proves nothing.

// inheritance is an attempt of that kind.
type inheritance struct {
	task   task.Task
	launch *task.Task // whole, once the engine has handed it over
	stop   bool       // it has to end
	looks  int        // how often it was looked for
	said   string     // the last word about it
	// recalled are the supervisors that were asked to give it back, by spool, before
	// they were last looked at.
	recalled map[string]bool
}

// ours returns the tasks that may begin here, and keeps the others.
func (b *Backend) ours(tasks []task.Task) []task.Task {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.learned {
		b.early = append(b.early, tasks...)
		return nil
	}
	if len(b.inherited) == 0 {
		return tasks
	}
	return slices.DeleteFunc(slices.Clone(tasks), func(t task.Task) bool {
		in := b.inherited[t.Ref()]
		if in != nil {
			in.task, in.launch = t, &t
			b.outlook.wake()
		}
		return in != nil
	})
}

// answer is what became known of an inheritance.
type answer uint8

const (
	unknownYet answer = iota
	notElsewhere
	runsElsewhere
	endedUnbegun
)

// settle asks the supervisors that may have an inheritance.
func (l *lookout) settle(ref task.Ref, in *inheritance, stop bool) (a answer, at *foreignSpool) {
	waiting := l.blind != nil
	for _, f := range l.askable() {
		switch found := f.facts[ref]; {
		case found.begun():
			return runsElsewhere, f
		case found.refused() && found.end.GetRecalledBy() == l.recaller():
		case found.refused() && stop && found.end.GetRecalledBy() == 0:
			return endedUnbegun, f
		case in.recalled[f.dir] && f.card.Left && f.complete && !found.refused():
			// It has ended, and whoever comes after it there finds the recall.
		default:
			waiting, at = true, f
			l.recall(ref, in, f)
			if stop {
				l.ask(f, request{what: askStop, ref: ref})
			}
		}
	}
	if waiting {
		return unknownYet, at
	}
	return notElsewhere, nil
}

// recall asks a supervisor to give back an inheritance.
func (l *lookout) recall(ref task.Ref, in *inheritance, f *foreignSpool) {
	if !l.ask(f, request{what: askRecall, ref: ref, fence: l.recaller()}) {
		return
	}
	if in.recalled == nil {
		in.recalled = map[string]bool{}
	}
	in.recalled[f.dir] = true
}

// recaller is the fence by which supervisors know who recalls.
func (l *lookout) recaller() uint64 { return max(l.b.opts.Fence, 1) }

// inherit goes on with an inheritance as far as is known. It returns what is to be told,
// and whether the attempt begins here.
func (l *lookout) inherit(ref task.Ref, in *inheritance) (changes []task.Change, begin bool) {
	b := l.b
	a, f := l.settle(ref, in, b.wantsStop(&in.stop))
	in.looks++
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inherited[ref] != in {
		return nil, false // our own supervisor has it
	}
	switch a {
	case runsElsewhere:
		if f.card == (card{}) {
			break // who that is will be known
		}
		return l.found(ref, in, f), false
	case endedUnbegun:
		delete(b.inherited, ref)
		b.remote[ref] = f.dir
		return []task.Change{b.word(ref, task.Event{Kind: task.EventStopped})}, false
	case notElsewhere:
		delete(b.inherited, ref)
		return nil, true
	case unknownYet:
	}
	if in.stop && in.task.Status().Cancel != nil && f != nil && f.silent(l.began, l.now) {
		delete(b.inherited, ref)
		b.forgetRef(ref)
		return []task.Change{b.lost(ref, in.text(f, l.now, nil)+"; it was cancelled before that was known")}, false
	}
	if text := in.text(f, l.now, l.blind); in.looks > 1 && text != in.said {
		in.said = text
		return []task.Change{b.noted(ref, text)}, false
	}
	return nil, false
}

// found makes a distant attempt of an inheritance. The backend's mutex is held.
func (l *lookout) found(ref task.Ref, in *inheritance, f *foreignSpool) []task.Change {
	b := l.b
	delete(b.inherited, ref)
	delete(b.active, ref)
	o := f.card.origin()
	h := o.handleOf(f.facts[ref].report(ref))
	d := newDistant(in.task, h)
	d.stop = in.stop
	b.distant[ref] = d
	return []task.Change{b.word(ref, task.Event{Kind: task.EventLaunched, Handle: h.encode()})}
}

// text says why an inheritance does not begin.
func (in *inheritance) text(f *foreignSpool, now time.Time, blind error) string {
	if f == nil {
		return fmt.Sprintf("may have been handed to a supervisor on another host, and it is not begun here before that is known: %v", blind)
	}
	where := "whose spool is " + f.dir
	if f.card.Host != "" {
		where = "on host " + f.card.Host
	}
	text := fmt.Sprintf("may have been handed to the supervisor %s, which has not said yet whether it begins there: it is not begun here before that", where)
	if now.Sub(f.heard) < silentAfter && !f.card.Left {
		return text
	}
	return fmt.Sprintf("%s. Nothing has been heard of it since %s; a daemon that is started there finds out", text, f.heardAt())
}

// beginHere hands over what begins here after all.
func (b *Backend) beginHere(ctx context.Context, settled []*inheritance) {
	var tasks []task.Task
	for _, in := range settled {
		switch {
		case in.launch != nil:
			tasks = append(tasks, *in.launch)
		case in.stop:
			if err := b.Stop(ctx, in.task); err != nil {
				b.opts.Logger.Warn("cannot stop a task; the engine asks again", "task", in.task.Seq, "error", err)
			}
		default: // the engine hands it over
		}
	}
	if err := b.Launch(ctx, tasks); err != nil {
		b.opts.Logger.Warn("tasks cannot be handed over yet", "tasks", len(tasks), "error", err)
		b.keepInherited(settled)
	}
}

// keepInherited has what could not be handed over tried again.
func (b *Backend) keepInherited(ins []*inheritance) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, in := range ins {
		if in.launch != nil {
			b.inherited[in.task.Ref()] = in
		}
	}
}
