package workers

import (
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// attempt is one that was handed over. The backend's mutex guards it.
type attempt struct {
	ref   task.Ref
	task  task.Task
	whole bool      // the task has its environment and payload
	since time.Time // when it began to wait for a worker

	holder  *member // who has it; nil = it waits
	lease   uint64
	claimed bool // its worker has begun it, or is about to
	giving  bool // it is being written into the holder's ledger

	missed time.Time // since when its holder, which lives, does not have it; zero = it has

	stop    bool
	ended   bool
	history []task.Change
}

// begun says whether it is known to have begun: since we are here, or before. The mutex
// is held.
func (a *attempt) begun() bool {
	s := a.task.State()
	return len(a.history) > 0 || s != task.Assigned && s != task.Stopping
}

// tell reports what was not reported yet. The same may come from the worker, from its
// supervisor's journal, and again after a lost answer.
func (b *Backend) tell(a *attempt, changes ...task.Change) {
	for _, c := range changes {
		if a.ended {
			return
		}
		c.Seq, c.Event.Attempt = a.ref.Seq, a.ref.Attempt
		if slices.ContainsFunc(a.history, func(h task.Change) bool { return h.Event.Kind == c.Event.Kind }) {
			continue
		}
		a.claimed = true
		a.ended = c.Event.Kind.Ends()
		a.history = append(a.history, c)
		b.out = append(b.out, c)
	}
	if len(changes) > 0 {
		b.ring()
	}
}

// end reports an end of our own making.
func (b *Backend) end(a *attempt, k task.EventKind, class task.FailureClass, text string) {
	b.tell(a, task.Change{Event: task.Event{Kind: k, At: task.At(b.opts.Now()), Class: class, Text: text, Outcome: task.Outcome{Node: b.here.Name}}})
}

// free lets an attempt wait for a worker again, before those that came later.
func (b *Backend) free(a *attempt) {
	if a.holder != nil {
		delete(a.holder.has, a.ref)
	}
	a.holder, a.lease, a.claimed, a.giving, a.since, a.missed = nil, 0, false, false, b.opts.Now(), time.Time{}
	b.line = append([]*attempt{a}, b.line...)
	b.changed()
	b.ring()
}
