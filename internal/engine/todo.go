package engine

import "github.com/dspy-agent/dspy-agent/internal/task"

// todo is the steps outside that are due. The facts they follow from are on
// disk, so losing it in a crash loses nothing: recovery finds them again.
type todo struct {
	launch []task.Seq // in the order in which they were placed
	cancel []task.Seq // active tasks with a wish to be cancelled, found by recovery
	stop   map[task.Seq]stopping
	forget map[kept]struct{}
}

// kept is the end of an attempt that a backend still keeps, and may drop.
type kept struct {
	ref     task.Ref
	backend string
}

func newTodo() todo {
	return todo{stop: make(map[task.Seq]stopping), forget: make(map[kept]struct{})}
}

func (d *todo) any() bool { return len(d.launch)+len(d.stop)+len(d.forget) > 0 }

// note books the step that a committed event calls for.
func (d *todo) note(a task.Applied, ev task.Event) {
	switch ev.Kind {
	case task.EventPlaced:
		d.launch = append(d.launch, a.Task.Seq)
	case task.EventStopping:
		d.stop[a.Task.Seq] = stopping{}
	default: // nothing outside follows from it
	}
	if a.From.Active() && !a.Task.State().Active() {
		delete(d.stop, a.Task.Seq)
		d.drop(task.Ref{Seq: a.Task.Seq, Attempt: ev.Attempt}, backendOf(a.Task, ev.Attempt))
	}
}

// drop books that backends may drop the end of an attempt.
func (d *todo) drop(ref task.Ref, backends ...string) {
	for _, b := range backends {
		d.forget[kept{ref, b}] = struct{}{}
	}
}

// refused books that a backend may drop the end of an attempt that is on disk
// already: after a crash it reports again what it was not told to forget.
func (d *todo) refused(t task.Task, ev task.Event) {
	if !ends(ev.Kind) {
		return
	}
	if ev.Attempt > t.Attempt() || ev.Attempt == t.Attempt() && t.State().Active() {
		return // that attempt has not ended
	}
	if b := backendOf(t, ev.Attempt); b != "" {
		d.drop(task.Ref{Seq: t.Seq, Attempt: ev.Attempt}, b)
	}
}

// ends says whether a backend reports with this event that an attempt has ended.
func ends(k task.EventKind) bool {
	switch k {
	case task.EventExited, task.EventStopped, task.EventNotStarted, task.EventVanished:
		return true
	default:
		return false
	}
}

// backendOf returns which backend had the attempt.
func backendOf(t task.Task, attempt int) string {
	st := t.Status()
	for _, p := range st.Past {
		if p.Number == attempt {
			return p.Backend
		}
	}
	return st.Backend
}
