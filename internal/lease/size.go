package lease

import "github.com/dspy-agent/dspy-agent/internal/task"

// MaxBatchBytes bounds the tasks of one grant, and the reports of one call, together: a
// quarter of what a message may have. One that alone is larger goes alone.
const MaxBatchBytes = 16 << 20

// perItem is more than what a message takes for the rest of a task, an entry or an event.
const perItem = 128

// TaskBytes is about what a task takes in a grant.
func TaskBytes(t task.Task) int {
	s := t.Spec
	n := perItem + len(s.ID) + len(s.Class) + len(s.Dir) + len(s.Payload) + len(s.Builtin)
	for _, list := range [][]string{s.Argv, s.Env, s.Ambient} {
		for _, text := range list {
			n += len(text) + 8
		}
	}
	return n
}

// Bytes is about what a report takes in a call.
func (r Report) Bytes() int {
	n := perItem
	for _, c := range r.Changes {
		n += perItem + len(c.Result) + len(c.Event.Text) + len(c.Event.Handle) + len(c.Event.Outcome.Message) + len(c.Event.Outcome.Node)
	}
	return n
}
