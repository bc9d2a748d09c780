package engine

import (
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Inventory is this machine's GPUs: what is known of them, and the locks that keep the
// schedulers of others off those that a task of ours has. The leases are in the Store.
// No call waits for the driver.
type Inventory interface {
	Witness
	// See tells how the GPUs are when these leases hold, and when whoever holds them
	// gives them back for sure.
	See(leases []gpu.Lease, ends map[string]task.Instant, now time.Time) func() scheduler.GPUs
	// Look has them looked at once more. Changed is signalled when that, or anything
	// else, may have changed what can be placed, or what there is to be said of tasks.
	Look()
	Changed() <-chan struct{}
	// Claim locks GPUs for a task, before its lease is committed. why says why one of
	// them cannot be had; "" = all are locked.
	Claim(holder string, uuids []string) (why string)
	// Hold tells which tasks hold GPUs, all of them. What was claimed and is not among
	// it is given back, once its memory is free.
	Hold(tasks []task.Task)
}

// Witness tells of tasks and the GPUs that they hold.
type Witness interface {
	// Notes are what there is to be said of tasks that hold GPUs; lost has those of
	// which a GPU is gone.
	Notes() (texts, lost map[task.Seq]string)
	// Use is what an attempt has had of its GPUs up to a moment.
	Use(t task.Task, until time.Time) task.GPUUse
	// SeenSince says whether the GPUs were looked at after a moment, or cannot be.
	SeenSince(at time.Time) bool
	// Blame says what was wrong with the GPUs of an attempt that failed: lost, that
	// one failed under it; contended, that somebody else used one.
	Blame(t task.Task) (lost, contended string)
}

// see is Inventory.See with what a tally has.
func (e *Engine) see(y tally) func() scheduler.GPUs {
	if e.gpus == nil {
		return nil
	}
	now := e.now()
	leases := make([]gpu.Lease, 0, len(y.gpus))
	ends := make(map[string]task.Instant, len(y.gpus))
	for _, t := range y.gpus {
		leases = append(leases, t.Status().Lease.GPULease(t.Spec.ID))
		if at, ok := scheduler.GivesBack(t, task.At(now)); ok {
			ends[t.Spec.ID] = at
		}
	}
	return e.gpus.See(leases, ends, now)
}

// claim keeps of the placements those whose GPUs could be locked. again says that some
// could not, and that another plan may find others for them.
func (e *Engine) claim(d scheduler.Decision, ids map[task.Seq]string) (placed []scheduler.Placement, again bool) {
	for _, p := range d.Place {
		if len(p.Lease.GPUs) > 0 {
			e.gpusDirty = true
			if why := e.gpus.Claim(ids[p.Seq], p.Lease.GPUs); why != "" {
				e.log.Info("a GPU could not be had", keyTask, ids[p.Seq], keyReason, why)
				again = true
				continue
			}
		}
		placed = append(placed, p)
	}
	return placed, again
}

// secondThought is how long the report of a failure may wait for a look at the GPUs.
const secondThought = 2 * time.Second

// late is such a report.
type late struct {
	change task.Change
	until  time.Time
}

// consider keeps back reports that a task with GPUs has failed until these were looked at
// since: a program that ends because its GPU has fallen off the bus is often quicker than
// the driver's word of that. Whoever reported keeps its end until it is told that it is
// on disk.
func (e *Engine) consider(reports []task.Change) []task.Change {
	if e.gpus == nil || len(e.tally.gpus) == 0 && len(e.late) == 0 {
		return reports
	}
	now := e.now()
	var out []task.Change
	ripe := func(l late) bool { return !now.Before(l.until) || e.gpus.SeenSince(l.change.Event.At.Time()) }
	left := e.late[:0]
	for _, l := range e.late {
		if ripe(l) {
			out = append(out, l.change)
		} else {
			left = append(left, l)
		}
	}
	e.late = left
	for _, c := range reports {
		l := late{c, now.Add(secondThought)}
		t, holds := e.tally.gpus[c.Seq]
		failed := c.Event.Kind == task.EventExited && (c.Event.Outcome.ExitCode != 0 || c.Event.Outcome.Signal != 0)
		if !holds || !failed || c.Event.Attempt != t.Attempt() || ripe(l) {
			out = append(out, c)
			continue
		}
		e.gpus.Look()
		e.late = append(e.late, l)
	}
	return out
}

// account completes reports about the ends of attempts that held GPUs: what they had
// of them, and whether a GPU was to blame.
func (e *Engine) account(changes []task.Change) {
	for i := range changes {
		ev := &changes[i].Event
		t, ok := e.tally.gpus[changes[i].Seq]
		if !ok || !ends(ev.Kind) || ev.Attempt != t.Attempt() {
			continue
		}
		ev.Outcome.GPU = e.gpus.Use(t, ev.At.Time())
		lost, contended := e.gpus.Blame(t)
		o := &ev.Outcome
		if ev.Kind == task.EventStopped && t.Status().Cause == task.CauseGPULost && lost != "" {
			o.Message = "ended because a GPU that it held failed: " + lost
		}
		failed := ev.Kind == task.EventExited && (o.ExitCode != 0 || o.Signal != 0)
		if !failed || o.Class != task.NoFailure && o.Class != task.UserError {
			continue
		}
		switch {
		case lost != "":
			o.Class, o.Message = task.GPULost, "failed together with "+lost+" (the program "+orText(o.Message, task.EndText(*o))+")"
		case contended != "":
			o.Message = orText(o.Message, task.EndText(*o)) + "; its GPU was also used by " + contended
		}
	}
}

func orText(text, otherwise string) string {
	if text != "" {
		return text
	}
	return otherwise
}

// gpuEvents are what follows for running tasks from how their GPUs are: those of which
// one is gone are ended, and may be tried again on others; of the others is said what
// there is to be said.
func (e *Engine) gpuEvents(o overlay) (out []task.Change) {
	if e.gpus == nil || len(e.tally.gpus) == 0 {
		return nil
	}
	texts, lost := e.gpus.Notes()
	add := func(seq task.Seq, f func(t task.Task) (task.Event, bool)) {
		t, touched := o.tasks[seq]
		if !touched {
			t = e.active[seq]
		}
		if t.Spec == nil {
			return
		}
		if ev, ok := f(t); ok {
			ev.At, ev.Attempt = task.At(e.now()), t.Attempt()
			out = append(out, task.Change{Seq: seq, Event: ev})
		}
	}
	for seq := range lost {
		add(seq, func(t task.Task) (task.Event, bool) {
			return task.Event{Kind: task.EventStopping, Cause: task.CauseGPULost}, t.State().Active() && t.State() != task.Stopping
		})
	}
	for seq, text := range texts {
		add(seq, func(t task.Task) (task.Event, bool) {
			return task.Event{Kind: task.EventNoted, Text: text}, t.State() == task.Running && t.Status().Detail != text
		})
	}
	return out
}

// tellGPUs tells the inventory who holds what, if that may have changed.
func (e *Engine) tellGPUs() {
	if e.gpus == nil || !e.gpusDirty {
		return
	}
	e.gpusDirty = false
	tasks := make([]task.Task, 0, len(e.tally.gpus))
	for _, t := range e.tally.gpus {
		tasks = append(tasks, t)
	}
	e.gpus.Hold(tasks)
}

// gpusChanged is signalled by the inventory; nil = there is none.
func (e *Engine) gpusChanged() <-chan struct{} {
	if e.gpus == nil {
		return nil
	}
	return e.gpus.Changed()
}
