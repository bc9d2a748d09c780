package engine

import (
	"fmt"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Explain says in one sentence why a task is where it is.
func (e *Engine) Explain(t task.Task) (string, error) {
	if t.State() != task.Pending {
		return e.explainMoved(t), nil
	}
	if why, held, err := e.explainHeld(t); held || err != nil {
		return why, err
	}
	heads, err := e.store.Heads(1)
	if err != nil {
		return "", err
	}
	e.mu.Lock()
	s := e.snapshot(e.tally.clone())
	e.mu.Unlock()
	s.Heads = heads
	first := false
	for _, h := range heads {
		first = first || h.Seq == t.Seq
	}
	w, waits := scheduler.Plan(s).Waits[t.Spec.Shape()]
	switch {
	case waits && first:
		return "waiting: " + w.Reason, nil
	case waits:
		return "waiting for its turn behind others like it; the first of them: " + w.Reason, nil
	case first:
		return "it is the next of its kind and starts within moments", nil
	default:
		return "waiting for its turn behind others like it", nil
	}
}

// explainHeld says why a Pending task is not in the line at all. ok is false for
// one that is.
func (e *Engine) explainHeld(t task.Task) (why string, ok bool, err error) {
	st := t.Status()
	now := task.At(e.now())
	switch {
	case st.Cancel != nil:
		return "it is being cancelled, as asked by " + st.Cancel.By, true, nil
	case st.Held != "":
		return "held: " + st.Held, true, nil
	case st.Blocked > 0:
		why, err := e.explainBlocked(t)
		return why, true, err
	case st.NotBefore > now:
		why := fmt.Sprintf("waiting to be tried again in %s", human(st.NotBefore.Sub(now)))
		if n := len(st.Past); n > 0 {
			why += fmt.Sprintf(": attempt %d %s", st.Past[n-1].Number, st.Past[n-1].Outcome.Message)
		}
		return why, true, nil
	}
	return "", false, nil
}

// explainBlocked names the tasks that have to end first, the first few of them.
func (e *Engine) explainBlocked(t task.Task) (string, error) {
	const most = 3
	var names []string
	open := 0
	for _, d := range t.Spec.After {
		other, err := e.store.Get(d.Seq)
		if task.CodeOf(err) == task.CodeNotFound && err != nil {
			continue // it ended so long ago that it was removed
		}
		if err != nil {
			return "", err
		}
		if other.State().Terminal() {
			continue
		}
		open++
		if open <= most {
			names = append(names, fmt.Sprintf("%s to %s (it is %s)", d.ID, conditionVerb(d.When), other.State()))
		}
	}
	if open == 0 {
		return "waiting for the end of another task to be taken note of", nil
	}
	why := "waiting for " + strings.Join(names, ", ")
	if open > most {
		why += fmt.Sprintf(" and %d more", open-most)
	}
	return why, nil
}

func conditionVerb(c task.Condition) string {
	switch c {
	case task.AfterOK:
		return "succeed"
	case task.AfterNotOK:
		return "fail"
	default:
		return "end"
	}
}

// explainMoved speaks of a task that has left the line.
func (e *Engine) explainMoved(t task.Task) string {
	st := t.Status()
	now := task.At(e.now())
	switch st.State {
	case task.Assigned, task.Starting:
		return e.explainStarting(st)
	case task.Running:
		return fmt.Sprintf("running for %s on backend %s, attempt %d", human(t.Ran(now)), st.Backend, st.Attempt)
	case task.Stopping:
		return fmt.Sprintf("being stopped for %s (%s)", human(now.Sub(st.StoppingAt)), stopReason(t))
	case task.Succeeded:
		return fmt.Sprintf("succeeded %s ago after %s", human(now.Sub(st.EndedAt)), human(t.Ran(now)))
	case task.Lost:
		return fmt.Sprintf("lost %s ago: %s; it may have done its work, so it is not run again by itself (retry it, or submit with --on-lost retry)", human(now.Sub(st.EndedAt)), st.Outcome.Message)
	default:
		return fmt.Sprintf("%s %s ago: %s", st.State, human(now.Sub(st.EndedAt)), st.Outcome.Message)
	}
}

func (e *Engine) explainStarting(st task.Status) string {
	if r, ok := e.backends[st.Backend]; !ok {
		return fmt.Sprintf("placed on backend %s, which is not configured on this host", st.Backend)
	} else if down := r.Backend.Down(); down != "" {
		return fmt.Sprintf("placed on backend %s, which is down: %s", st.Backend, down)
	}
	switch {
	case st.Detail != "":
		return fmt.Sprintf("with backend %s: %s", st.Backend, st.Detail)
	case st.Lease.Ahead:
		return fmt.Sprintf("handed to backend %s, where it is among the next to start", st.Backend)
	default:
		return fmt.Sprintf("being started by backend %s", st.Backend)
	}
}

func stopReason(t task.Task) string {
	st := t.Status()
	if st.Cause == task.CauseTimeout {
		return fmt.Sprintf("it exceeded its time limit of %s", t.Spec.Timeout)
	}
	if st.Cancel != nil {
		return "cancelled by " + st.Cancel.By
	}
	return "cancelled"
}

// human writes a duration with the precision people care for.
func human(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}
