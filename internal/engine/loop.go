package engine

import (
	"context"
	"errors"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

const (
	// coalesce is the least time between two commits of reports for each task that
	// backends have in hand, placed ahead: nobody waits for those commits, and a commit
	// costs as much as a few short tasks. For so long, or longer, what is in hand keeps
	// the slots busy.
	coalesce = 500 * time.Microsecond
	// enoughAhead is how many make it worth while, and mostAhead how many count.
	enoughAhead, mostAhead = 16, 32
	// repeatEvery is how often the loop looks whether a step outside can be taken that
	// could not be before.
	repeatEvery = time.Second
)

// loop is the one goroutine that moves tasks. Each round takes everything that
// has come in, decides, commits once, and then acts.
func (e *Engine) loop(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	changed := e.gpusChanged()
	for {
		filled, wake, gpus := e.inbox.filled, e.wake, changed
		if e.stuck.err != nil { // it is tried again after a while, or when somebody asks, but not for each report
			filled, wake, gpus = nil, nil, nil
		}
		var asks []input
		select {
		case <-ctx.Done():
			return nil
		case in := <-e.asks:
			asks = append(asks, in)
		case <-filled:
			asks = e.linger(ctx)
		case <-wake:
		case <-gpus:
		case <-timer.C:
		}
		again, err := e.round(ctx, e.moreAsks(asks))
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if !again {
			e.tellQuiet()
		}
		timer.Reset(e.rest(again))
	}
}

// linger lets more reports come in while there is so much in hand that nobody
// waits for the commit. Somebody who asks for something ends it.
func (e *Engine) linger(ctx context.Context) (asks []input) {
	n := min(e.tally.aheads(), mostAhead)
	wait := time.Duration(n)*coalesce - time.Since(e.last)
	if n < enoughAhead || wait <= 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case in := <-e.asks:
		return []input{in}
	case <-t.C:
	case <-ctx.Done():
	}
	return nil
}

// moreAsks takes what else people ask for at this moment, to share the commit.
func (e *Engine) moreAsks(asks []input) []input {
	for {
		select {
		case in := <-e.asks:
			asks = append(asks, in)
		default:
			return asks
		}
	}
}

// round is one turn: what came in, what has to be stopped, and what can start,
// in one commit; then the steps outside. again asks for another turn at once.
func (e *Engine) round(ctx context.Context, asks []input) (again bool, err error) {
	asks = e.askedOfClasses(ctx, asks)
	next, more, err := e.store.Advance(ctx, task.At(e.now()))
	if err != nil {
		e.answer(asks, nil, err)
		return e.survive("advance", err)
	}
	e.due = next
	e.demand()
	var changes []task.Change
	for _, in := range asks {
		changes = append(changes, in.changes...)
	}
	reports := e.consider(e.inbox.take())
	changes, again, err = e.decide(append(changes, reports...))
	if err != nil {
		e.inbox.putBack(reports)
		e.answer(asks, nil, err)
		return e.survive("plan", err)
	}
	if len(changes) > 0 {
		applied, err := e.commit(ctx, asks, changes)
		if err != nil {
			e.inbox.putBack(reports)
			return e.survive("commit", err)
		}
		again = e.learn(changes, applied) || again
		e.works()
	}
	e.stuck = stuck{}
	e.todo.cancel = nil // those are Stopping now, or have ended
	e.slow = e.tellOverdue()
	e.act(ctx)
	return again || more, nil
}

// decide adds to the changes that came in what follows from them: the stops of
// what is to be cancelled, and what can start now.
func (e *Engine) decide(changes []task.Change) (_ []task.Change, again bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.account(changes)
	o := e.simulate(changes)
	for _, c := range append(e.stops(o), e.gpuEvents(o)...) {
		changes = append(changes, c)
		e.simulateOne(&o, c)
	}
	placements, again, err := e.plan(o.tally)
	if err != nil {
		return nil, false, err
	}
	return append(changes, placements...), again, nil
}

// stops returns EventStopping for every active task that somebody wants ended.
func (e *Engine) stops(o overlay) []task.Change {
	var out []task.Change
	stop := func(t task.Task) {
		if t.Spec == nil || t.Status().Cancel == nil || !t.State().Active() || t.State() == task.Stopping {
			return
		}
		out = append(out, task.Change{Seq: t.Seq, Event: task.Event{
			Kind: task.EventStopping, At: task.At(e.now()), Attempt: t.Attempt(), Cause: task.CauseCancel,
		}})
	}
	for _, t := range o.tasks {
		stop(t)
	}
	for _, seq := range e.todo.cancel {
		if _, touched := o.tasks[seq]; !touched {
			stop(e.active[seq])
		}
	}
	return out
}

// learn takes over what the store made of the changes: the table of active
// tasks, one log line per move, and which steps outside are now due. again says
// that a place was meant for a task that cannot have it.
func (e *Engine) learn(changes []task.Change, applied []task.Applied) (again bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, a := range applied {
		ev := changes[i].Event
		switch {
		case a.Err == nil:
			e.measure(a, ev)
			e.meterMove(a, ev)
			e.noteRecent(a, ev)
			if ev.Kind == task.EventStarted {
				e.noteBegun(a.Task)
			}
			e.track(a)
			e.todo.note(a, ev)
			e.logMove(a, ev)
		case a.Task.Spec == nil:
			e.gone(changes[i], a.Err)
			again = again || ev.Kind == task.EventPlaced
		default:
			if !errors.Is(a.Err, task.ErrStale) && task.CodeOf(a.Err) == task.CodeInternal {
				e.log.Error("a change was refused", keySeq, changes[i].Seq, keyAttempt, ev.Attempt, keyEvent, ev.Kind.String(), "error", a.Err)
			}
			e.adopt(a)
			e.todo.refused(a.Task, ev)
		}
	}
	e.tellGPUs()
	return again
}

// gone is for a change of a task that is not there any more, or cannot be read.
// The end of one that retention has removed was on disk, or it had not been
// removed: its backend may forget it. That of one that cannot be read is kept by
// its backend, which may be all that is left of it.
func (e *Engine) gone(c task.Change, err error) {
	if !ends(c.Event.Kind) {
		return
	}
	ref := task.Ref{Seq: c.Seq, Attempt: c.Event.Attempt}
	attrs := []any{keySeq, c.Seq, keyAttempt, ref.Attempt, keyEvent, c.Event.Kind.String(), "error", err}
	if t, ok := e.active[c.Seq]; ok && t.Ref() == ref { // it holds nothing any more
		e.tally.add(t, e.local(t), -1)
		delete(e.active, c.Seq)
	}
	if errors.Is(err, task.ErrRemoved) {
		e.log.Info("a backend reports the end of a task that was removed; it may forget it", attrs...)
		e.todo.drop(ref, e.order...) // which of them it was is not known, and forgetting the unknown is no error
		return
	}
	e.log.Error("the end of a task cannot be stored", attrs...)
}

// adopt takes a task as the store says it is. A commit that failed may be there
// all the same; its changes, tried again, are then refused as known already, and
// what follows from them is still to be done.
func (e *Engine) adopt(a task.Applied) {
	old, known := e.active[a.Task.Seq]
	if known && old.Attempt() == a.Task.Attempt() && old.State() == a.Task.State() || !known && !a.Task.State().Active() {
		return
	}
	e.track(a)
	switch a.Task.State() {
	case task.Assigned:
		e.todo.launch = append(e.todo.launch, a.Task.Seq)
	case task.Stopping:
		e.todo.stop[a.Task.Seq] = stopping{}
	case task.Running:
		e.noteBegun(a.Task)
	default: // its backend has it, or it has ended
	}
}

// rest returns how long the loop may sleep when nothing comes in.
func (e *Engine) rest(again bool) time.Duration {
	if again {
		return 0
	}
	d := time.Minute
	for _, at := range []task.Instant{e.due, e.slow, e.impatient} {
		if at != 0 {
			d = min(d, max(0, at.Sub(task.At(e.now()))))
		}
	}
	if e.todo.any() || e.anyDown() || len(e.late) > 0 {
		d = min(d, repeatEvery)
	}
	return d
}

// anyDown says whether a backend is down that may be back at any moment. It does not
// tell when it is back, so the loop looks again before long.
func (e *Engine) anyDown() bool {
	for _, r := range e.backends {
		if a, ok := r.Backend.(Absentee); ok && a.Absent() {
			continue
		}
		if r.Backend.Down() != "" {
			return true
		}
	}
	return false
}
