package task

import (
	"fmt"
	"slices"
	"syscall"
)

// Apply returns the task after the event. It is the only code that changes a
// task's state, and it runs inside the store's transaction.
//
// ErrStale means that the event is about an earlier attempt, or about something
// the task is past already: the caller drops it. ErrIllegal means that no edge
// leads from the task's state: a mistake of the program. A refusal that a user
// causes (retrying a task that still runs) is an Error with CodeConflict. In all
// three cases the task is returned unchanged.
//
// An ending that is to be tried again leads on, in the same step, to Pending of
// the next attempt; the attempt that ended is then the last of Status.Past.
func Apply(t Task, ev Event) (Task, error) {
	if ev.Kind >= EventCancelAsked {
		return note(t, ev)
	}
	e, ok := edge(ev.Kind)
	if !ok || ev.Kind == EventSubmitted {
		return t, fmt.Errorf("%w: %s on task %d", ErrIllegal, ev.Kind, t.Seq)
	}
	if err := admit(t, e, ev); err != nil {
		return t, err
	}
	n := t
	n.status.Detail = ""
	switch ev.Kind {
	case EventPlaced:
		n.status.State = Assigned
		n.status.AssignedAt = ev.At
		n.status.Backend = ev.Backend
		n.status.Lease = ev.Lease
	case EventLaunched:
		n.status.State = Starting
		n.status.StartingAt = ev.At
		n.status.Handle = ev.Handle
		n.status.Detail = ev.Text
	case EventStarted:
		n.status.State = Running
		n.status.StartedAt = ev.At
		n.status.Lease.Ahead = false
	case EventStopping:
		n.status.State = Stopping
		n.status.StoppingAt = ev.At
		n.status.Cause = ev.Cause
	case EventRetried:
		n.again(ev.At, true)
		n.status.Blocked = ev.Blocked
	default:
		n.end(ev)
	}
	return n, nil
}

// admit decides whether the event may act on the task at all.
func admit(t Task, e Edge, ev Event) error {
	s := t.status.State
	switch {
	case ev.Attempt < t.status.Attempt:
		return ErrStale
	case ev.Attempt > t.status.Attempt:
		return fmt.Errorf("%w: %s for attempt %d of task %d, which is at attempt %d", ErrIllegal, ev.Kind, ev.Attempt, t.Seq, t.status.Attempt)
	case ev.Kind == EventRetried:
		return admitRetry(t)
	case !e.allows(s):
		return notAllowed(t, e, ev)
	case ev.Kind == EventPlaced && t.status.Cancel != nil:
		return fmt.Errorf("%w: task %d is being cancelled", ErrStale, t.Seq)
	case ev.Kind == EventPlaced && (t.status.Blocked > 0 || t.status.Held != ""):
		return fmt.Errorf("%w: task %d was placed while it waits", ErrIllegal, t.Seq)
	case ev.Kind == EventExited && s == Stopping && !ev.Unprompted:
		return fmt.Errorf("%w: task %d ended after its stop signal, which is %s", ErrIllegal, t.Seq, EventStopped)
	}
	return nil
}

// notAllowed tells a report that comes too late from one that skips an edge:
// the task is past every state from which the event leads on, or it is not.
func notAllowed(t Task, e Edge, ev Event) error {
	s := t.status.State
	for _, f := range e.From {
		if s.rank() <= f.rank() {
			return fmt.Errorf("%w: %s on task %d, which is %s", ErrIllegal, ev.Kind, t.Seq, s)
		}
	}
	return ErrStale
}

func admitRetry(t Task) error {
	switch s := t.status.State; {
	case s == Succeeded:
		return Errorf(CodeConflict, "task %s succeeded; submit it under a new id to run it again", t.Spec.ID)
	case t.status.Held != "":
		return Errorf(CodeConflict, "task %s is held: %s; dspy-agent queue release %s lets it go", t.Spec.ID, t.status.Held, t.Spec.ID)
	case !s.Terminal():
		return Errorf(CodeConflict, "task %s is %s; only a task that has failed, was cancelled or is lost can be retried", t.Spec.ID, s)
	}
	return nil
}

// end closes the attempt and decides whether another one follows.
func (t *Task) end(ev Event) {
	s := &t.status
	o := ev.Outcome
	switch ev.Kind {
	case EventExited:
		s.State, o = exited(o)
	case EventStopped:
		s.State, o = stopped(s.Cause, t, o)
	case EventVanished:
		s.State = Lost
		o = Outcome{ExitCode: -1, Class: orClass(ev.Class, Vanished), Message: ev.Text, Node: o.Node}
	case EventCancelled:
		s.State = Cancelled
		o = Outcome{ExitCode: -1, Message: cancelText(s.Cancel)}
	case EventRefused:
		s.State = Failed
		o = Outcome{ExitCode: -1, Class: orClass(ev.Class, DependencyFailed), Message: ev.Text}
	case EventNotStarted:
		s.State, o = notStarted(t, ev)
	default: // Apply lets no other kind come here
	}
	o.GPU = ev.Outcome.GPU
	s.EndedAt = ev.At
	s.Outcome = o
	s.Lease = Lease{}
	// What was refused can never run, so trying it again would only refuse it later.
	if ev.Kind != EventRefused && t.retryAllowed() {
		t.again(ev.At, false)
	}
}

// exited turns the end of a program into a state and a sentence.
func exited(o Outcome) (State, Outcome) {
	if o.ExitCode == 0 && o.Signal == 0 && o.Class == NoFailure {
		return Succeeded, o
	}
	o.Class = orClass(o.Class, UserError)
	if o.Message == "" {
		o.Message = EndText(o)
	}
	return Failed, o
}

// stopped is the end after we stopped it: a cancel wins over a time limit, so
// that a task that somebody cancelled is not tried again.
func stopped(c Cause, t *Task, o Outcome) (State, Outcome) {
	if c == CauseCancel || t.status.Cancel != nil {
		o.Class = NoFailure
		o.Message = cancelText(t.status.Cancel)
		return Cancelled, o
	}
	if c == CauseGPULost {
		if o.Class = GPULost; o.Message == "" {
			o.Message = "ended because a GPU that it held is lost"
		}
		return Failed, o
	}
	if o.Class != Timeout || o.Message == "" { // else the backend tells of a limit that is not ours
		o.Class, o.Message = Timeout, "exceeded "+t.Spec.LimitWords()
	}
	return Failed, o
}

// notStarted is the end of what its backend could not start. Whoever asked for
// its end has it then.
func notStarted(t *Task, ev Event) (State, Outcome) {
	if t.status.Cause == CauseCancel || t.status.Cancel != nil {
		return Cancelled, Outcome{ExitCode: -1, Message: cancelText(t.status.Cancel), Node: ev.Outcome.Node}
	}
	return Failed, Outcome{ExitCode: -1, Class: orClass(ev.Class, CouldNotStart), Message: ev.Text, Node: ev.Outcome.Node}
}

// EndText says how a program ended.
func EndText(o Outcome) string {
	switch {
	case o.Class == OutOfMemory:
		return "killed because the machine or its memory limit ran out of memory"
	case o.Signal != 0:
		return fmt.Sprintf("killed by signal %d (%s)", o.Signal, syscall.Signal(o.Signal))
	case o.ExitCode == 127:
		return "ended with exit code 127 (command not found)"
	case o.ExitCode == 126:
		return "ended with exit code 126 (command not executable)"
	default:
		return fmt.Sprintf("ended with exit code %d", o.ExitCode)
	}
}

func cancelText(c *Cancel) string {
	if c == nil {
		return "cancelled"
	}
	text := "cancelled by " + c.By
	if c.Reason != "" {
		text += ": " + c.Reason
	}
	return text
}

func orClass(c, otherwise FailureClass) FailureClass {
	if c != NoFailure {
		return c
	}
	return otherwise
}

// retryAllowed says whether the attempt that just ended is followed by another.
func (t *Task) retryAllowed() bool {
	s := &t.status
	if s.State != Failed && s.State != Lost || s.Cancel != nil {
		return false
	}
	return t.usedBy(s.Outcome.Class) < s.Outcome.Class.Budget(t.Spec)
}

// usedBy returns the retries used against the class's budget. The classes that
// are the program's own doing share the one that the user gave.
func (t *Task) usedBy(c FailureClass) int {
	if !c.Users() {
		return int(t.status.Used[c])
	}
	n := 0
	for _, k := range []FailureClass{UserError, Timeout, OutOfMemory} {
		n += int(t.status.Used[k])
	}
	return n
}

// again opens the next attempt. by a person: at once, and with fresh budgets.
func (t *Task) again(at Instant, person bool) {
	old := t.status
	past := append(slices.Clone(old.Past), Attempt{
		Number: old.Attempt, State: old.State, Backend: old.Backend,
		AssignedAt: old.AssignedAt, StartedAt: old.StartedAt, EndedAt: old.EndedAt, Outcome: old.Outcome,
	})
	if len(past) > MaxPast {
		past = past[len(past)-MaxPast:]
	}
	t.status = Status{State: Pending, Attempt: old.Attempt + 1, Past: past}
	if person {
		t.status.NotBefore = at
		return
	}
	class := old.Outcome.Class
	t.status.Used = old.Used
	if t.status.Used[class] < ^uint16(0) {
		t.status.Used[class]++
	}
	t.status.NotBefore = at.Add(backoff(t.Spec, t.Seq, t.status.Attempt, t.usedBy(class)))
}

// note applies the events that leave the state as it is.
func note(t Task, ev Event) (Task, error) {
	n := t
	s := &n.status
	switch {
	case s.State.Terminal():
		return t, ErrStale
	case ev.Kind == EventCancelAsked:
		if s.Cancel != nil {
			return t, ErrStale
		}
		s.Cancel = &Cancel{At: ev.At, By: ev.By, Reason: ev.Text}
		return n, nil
	case ev.Attempt != s.Attempt:
		return t, ErrStale
	case ev.Kind == EventDepEnded:
		if s.State != Pending || s.Blocked == 0 {
			return t, ErrStale
		}
		s.Blocked--
		return n, nil
	case ev.Kind == EventNoted:
		if !s.State.Active() || s.Detail == ev.Text {
			return t, ErrStale
		}
		s.Detail = ev.Text
		return n, nil
	case ev.Kind == EventHeld:
		if s.State != Pending || s.Held == ev.Text {
			return t, ErrStale
		}
		s.Held = ev.Text
		return n, nil
	}
	return t, fmt.Errorf("%w: %s on task %d", ErrIllegal, ev.Kind, t.Seq)
}
