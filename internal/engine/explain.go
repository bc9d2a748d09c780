package engine

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Explain says in one sentence why a task is where it is.
func (e *Engine) Explain(t task.Task) (string, error) {
	switch st := t.Status(); {
	case st.State == task.Failed && st.Outcome.Class == task.DependencyFailed:
		return e.explainRefused(t)
	case st.State != task.Pending:
		return e.explainMoved(t), nil
	}
	if why, held, err := e.explainHeld(t); held || err != nil {
		return why, err
	}
	return e.explainPlace(t)
}

// explainLooks bounds at how many others Explain looks. Beyond them a task still
// says why it waits, as far as that is its own affair.
const explainLooks = 1000

// explainPlace says what a planner thinks of a task in the line, or of the first of
// its kind. Those before it in the line are placed first, as in a round.
func (e *Engine) explainPlace(t task.Task) (string, error) {
	e.mu.Lock()
	s := e.snapshot(e.tally.clone())
	e.mu.Unlock()
	s.Least = e.store.Least()
	shape, looks := t.Spec.Shape(), 0
	p := scheduler.NewExplainer(s)
	err := e.store.Line(func(h scheduler.Head) scheduler.Verdict {
		if looks++; h.Shape == shape || p.Full() || looks > explainLooks {
			return scheduler.Stop
		}
		return p.Offer(h)
	})
	if err != nil {
		return "", err
	}
	head, ok, err := e.store.Head(shape)
	if err != nil {
		return "", err
	}
	reason := ""
	if ok {
		p.Offer(head)
		reason = p.Decision().Waits[shape].Reason
	}
	switch first := ok && head.Seq == t.Seq; {
	case first && reason != "":
		return "waiting: " + reason, nil
	case first && looks > explainLooks:
		return fmt.Sprintf("waiting for its turn; tasks of more than %d other kinds are before it in the line", explainLooks), nil
	case first:
		return "it is the next of its kind and starts within moments", nil
	}
	why, err := e.explainTurn(t.Seq)
	if err == nil && reason != "" {
		why += "; the first of its kind: " + reason
	}
	return why, err
}

// Waits says of the first of each kind in the line why it waits, of so many kinds at most:
// what a listing tells of many tasks at once.
func (e *Engine) Waits(most int) (map[task.Seq]string, error) {
	e.mu.Lock()
	s := e.snapshot(e.tally.clone())
	e.mu.Unlock()
	s.Least = e.store.Least()
	looks := 0
	p := scheduler.NewExplainer(s)
	err := e.store.Line(func(h scheduler.Head) scheduler.Verdict {
		looks++
		switch v := p.Offer(h); {
		case looks >= most:
			return scheduler.Stop
		case v == scheduler.More:
			return v
		default: // the others of a class that is shut, or on a machine that is full, wait for that
			return scheduler.Skip
		}
	})
	if err != nil {
		return nil, err
	}
	waits := make(map[task.Seq]string, len(p.Decision().Waits))
	for _, w := range p.Decision().Waits {
		waits[w.Seq] = w.Reason
	}
	return waits, nil
}

// Kept says for which waiting task each GPU is kept at present, by UUID.
func (e *Engine) Kept() (map[gpu.DeviceID]string, error) {
	e.mu.Lock()
	s := e.snapshot(e.tally.clone())
	e.mu.Unlock()
	s.Least = e.store.Least()
	looks := 0
	p := scheduler.NewPlanner(s)
	err := e.store.Line(func(h scheduler.Head) scheduler.Verdict {
		verdict := p.Offer(h)
		if looks++; looks > explainLooks || p.Kept() != nil {
			return scheduler.Stop
		}
		return verdict
	})
	return p.Kept(), err
}

// explainTurn says how many are before a task in the line.
func (e *Engine) explainTurn(seq task.Seq) (string, error) {
	n, more, err := e.store.Position(seq)
	const why = "waiting for its turn behind others like it"
	switch {
	case err != nil:
		return "", err
	case more:
		return fmt.Sprintf("%s; more than %d tasks are before it in the line", why, n), nil
	case n == 1:
		return why + "; one task is before it in the line", nil
	case n > 1:
		return fmt.Sprintf("%s; %d tasks are before it in the line", why, n), nil
	default:
		return why, nil
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
		return fmt.Sprintf("held: %s; dspy-agent queue release %s lets it go", st.Held, t.Spec.ID), true, nil
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
		is, ended, err := e.lookAt(d)
		if err != nil {
			return "", err
		}
		if ended {
			continue
		}
		open++
		if open <= most {
			names = append(names, fmt.Sprintf("%s to %s (%s)", d.ID, conditionVerb(d.When), is))
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

// lookAt says how a task is that another waits for, and whether it has ended.
func (e *Engine) lookAt(d task.Dep) (is string, ended bool, err error) {
	other, err := e.store.Get(d.Seq)
	switch {
	case errors.Is(err, task.ErrDamaged):
		return "what is stored about it is damaged, so it may never end; cancel this task, and submit it again without waiting for that one", false, nil
	case task.CodeOf(err) == task.CodeNotFound && err != nil:
		return "", true, nil // it ended so long ago that it was removed
	case err != nil:
		return "", false, err
	default:
		return "it is " + other.State().String(), other.State().Terminal(), nil
	}
}

// explainRefused speaks of a task that never ran because of how another ended,
// and says whether trying it again would help.
func (e *Engine) explainRefused(t task.Task) (string, error) {
	why := e.explainMoved(t)
	for _, d := range t.Spec.After {
		other, err := e.store.Get(d.Seq)
		switch {
		case errors.Is(err, task.ErrDamaged):
			return why + "; submit it again without waiting for " + d.ID, nil
		case task.CodeOf(err) == task.CodeNotFound && err != nil:
			return why + "; submit it again without waiting for what was removed since", nil
		case err != nil:
			return "", err
		case other.State().Terminal() && !d.When.Met(other.State()) && d.When == task.AfterOK:
			return why + "; retry " + d.ID + " first, then this task", nil
		case other.State().Terminal() && !d.When.Met(other.State()):
			return why + "; submit it again without waiting for " + d.ID, nil
		}
	}
	return why + "; that is no longer so: retry it", nil
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
		return withDetail(fmt.Sprintf("running for %s on backend %s, attempt %d%s", human(t.Ran(now)), st.Backend, st.Attempt, e.explainLimit(t, now)), st)
	case task.Stopping:
		return withDetail(fmt.Sprintf("being stopped for %s (%s)", human(now.Sub(st.StoppingAt)), stopReason(t)), st)
	case task.Succeeded:
		return fmt.Sprintf("succeeded %s ago after %s", human(now.Sub(st.EndedAt)), human(t.Ran(now)))
	case task.Lost:
		return fmt.Sprintf("lost %s ago: %s; it may have done its work, so it is not run again by itself (retry it, or submit with --on-lost retry)", human(now.Sub(st.EndedAt)), st.Outcome.Message)
	default:
		return fmt.Sprintf("%s %s ago: %s", st.State, human(now.Sub(st.EndedAt)), st.Outcome.Message)
	}
}

// explainLimit says that a task runs longer than others of its class.
func (e *Engine) explainLimit(t task.Task, now task.Instant) string {
	if limit, over := e.overLimit(t, now); over {
		return fmt.Sprintf(", which is over its class's usual limit of %s; nothing ends it for that", human(limit))
	}
	return ""
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

// withDetail adds what the backend has to say about the task's state.
func withDetail(text string, st task.Status) string {
	if st.Detail == "" {
		return text
	}
	return text + "; " + st.Detail
}

func stopReason(t task.Task) string {
	st := t.Status()
	if st.Cause == task.CauseTimeout {
		return "it exceeded " + t.Spec.LimitWords()
	}
	if st.Cancel != nil {
		return "cancelled by " + st.Cancel.By
	}
	if st.Cause == task.CauseGPULost {
		return "a GPU that it holds is lost"
	}
	return "cancelled"
}

// human writes a duration with the precision people care for, and in the form in
// which the command line writes those that stand beside it.
func human(d time.Duration) string {
	d = max(d, 0).Round(time.Millisecond)
	switch {
	case d == 0:
		return "0s"
	case d < time.Second:
		return d.String()
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < time.Hour:
		return twoUnits(int(d.Seconds()), 60, "m", "s")
	case d < 24*time.Hour:
		return twoUnits(int(d.Minutes()), 60, "h", "m")
	default:
		return twoUnits(int(d.Hours()), 24, "d", "h")
	}
}

// twoUnits writes n of the smaller unit, of which so many are one of the larger.
func twoUnits(n, per int, larger, smaller string) string {
	text := strconv.Itoa(n/per) + larger
	if rest := n % per; rest != 0 {
		text += " " + strconv.Itoa(rest) + smaller
	}
	return text
}
