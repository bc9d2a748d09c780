package queue

import "github.com/dspy-agent/dspy-agent/internal/task"

// Work is what there is to do in a queue, as seen without changing anything: whether
// it is worth while to own it.
type Work struct {
	Active int             // tasks that a backend has
	Ready  map[string]bool // classes of which something is in the line
	Due    task.Instant    // when something is to be done next, which may be past; 0 = nothing is
}

// Work looks at a few small records, however many tasks wait. Paused classes are not
// among those that are Ready.
func (q *Queue) Work(now task.Instant) (Work, error) {
	w := Work{Ready: map[string]bool{}}
	for _, s := range task.States {
		if s.Active() {
			w.Active += q.Counts().Total(s)
		}
	}
	paused := q.Paused()
	for class := range q.Least() {
		if _, ok := paused[class]; !ok {
			w.Ready[class] = true
		}
	}
	due, _, err := q.agenda(now)
	w.Due = due
	return w, err
}
