package envmgr

import (
	"fmt"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

// Next decides what is to be done for a service. It is pure: the same arguments, the
// same decision.
func Next(d Definition, p Policy, s State, v View, now time.Time) (State, Step) {
	if v.Away != "" {
		return s.to(EngineAway, v.Away, now), Step{}
	}
	s = s.notice(d, p, v, now)
	switch {
	case s.Doing != Nothing:
		return s.doing(now), Step{}
	case s.Want == Down:
		return s.down(v, now)
	default:
		return s.up(d, p, v, now)
	}
}

// doing is the phase while an act is under way.
func (s State) doing(now time.Time) State {
	switch s.Doing {
	case Pull:
		return s.to(Pulling, "", now)
	case Create:
		return s.to(Creating, "", now)
	case Start:
		return s.to(Starting, "", now)
	case Stop, Remove:
		return s.to(Stopping, s.Reason, now)
	default:
		return s
	}
}

// down ends it, after those that need it.
func (s State) down(v View, now time.Time) (State, Step) {
	switch {
	case !v.Box.running():
		return s.to(Stopped, "", now), Step{}
	case len(v.Users) > 0:
		return s.to(Stopping, "waits for "+strings.Join(v.Users, ", ")+" to end first", now), Step{}
	case now.Before(s.NotBefore):
		return s.to(Stopping, s.Held, now), Step{At: s.NotBefore}
	default:
		return s.to(Stopping, "", now), Step{Act: Stop, Why: "it is not wanted any more"}
	}
}

func (s State) up(d Definition, p Policy, v View, now time.Time) (State, Step) {
	switch {
	case v.Rival != "":
		return s.to(Blocked, v.Rival, now), Step{}
	case s.Broken != "" && !v.Box.running():
		return s.to(Failed, s.Broken, now), Step{}
	case v.Box.running():
		return s.tend(d, p, v, now)
	case d.Once && v.Box != nil && s.Ended && v.Box.Exit == 0 && v.Box.Current && !s.Renew && !v.Box.Finished.IsZero():
		return s.to(Done, "", now), Step{}
	case p.MostEnds > 0 && len(s.Ends) >= p.MostEnds:
		s.Broken = fmt.Sprintf("it ended %d times within %s, the last time %s; mend it, then start it again", len(s.Ends), p.EndWindow, v.Box.ending())
		return s.to(Failed, s.Broken, now), Step{}
	}
	if at := s.begins(d, p, v); now.Before(at) {
		return s.waits(v, now), Step{At: at}
	}
	if v.Missing && (v.Box == nil || !v.Box.Current) {
		return s.to(Pulling, "", now), Step{Act: Pull}
	}
	if why := unmet(v.Needs); why != "" {
		return s.to(Waiting, why, now), Step{}
	}
	switch {
	case v.Box == nil:
		return s.to(Creating, "", now), Step{Act: Create}
	case !v.Box.Current:
		return s.to(Creating, "its definition has changed", now), Step{Act: Remove, Why: "its definition has changed"}
	default:
		return s.to(Starting, "", now), Step{Act: Start}
	}
}

// begins is when it may be started again: after what failed, after its last end, and
// after the engine had the time to do so itself where that is how it was made.
func (s State) begins(d Definition, p Policy, v View) time.Time {
	at := s.NotBefore
	if n := len(s.Ends); n > 0 {
		at = later(at, s.Ends[n-1].Add(p.delay(d.Name, n)))
		if v.Box != nil && v.Box.Restarts && !v.Box.Finished.IsZero() {
			at = later(at, v.Box.Finished.Add(doubled(100*time.Millisecond, time.Minute, n-1)+2*time.Second))
		}
	}
	return at
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// waits is the phase of one that is not tried before a time.
func (s State) waits(v View, now time.Time) State {
	switch {
	case s.Held != "" && v.Missing:
		return s.to(Pulling, s.Held, now)
	case s.Held != "":
		return s.to(Blocked, s.Held, now)
	default:
		return s.to(BackingOff, v.Box.ending(), now)
	}
}

// ending says how a container has ended.
func (b *Box) ending() string {
	switch {
	case b == nil:
		return "it was removed"
	case b.OOM:
		return "for want of memory"
	case b.Trouble != "":
		return "it could not be started: " + b.Trouble
	case b.Exit > 128:
		return fmt.Sprintf("by signal %d", b.Exit-128)
	default:
		return fmt.Sprintf("with exit code %d", b.Exit)
	}
}

// unmet says which needs are not met, and why; "" = all are.
func unmet(needs []NeedView) string {
	var all []string
	for _, n := range needs {
		if n.Met || n.Optional && n.Hopeless {
			continue
		}
		all = append(all, n.Why)
	}
	return strings.Join(all, "; ")
}

// tend looks after one that runs.
func (s State) tend(d Definition, p Policy, v View, now time.Time) (State, Step) {
	if why := s.renew(p, v); why != "" {
		switch {
		case now.Before(s.NotBefore):
			return s.to(Degraded, why, now), Step{At: s.NotBefore}
		case v.Missing && !v.Box.Current:
			return s.to(Pulling, why, now), Step{Act: Pull, Why: why}
		}
		s.Silent = s.silent(p, v)
		return s.to(Stopping, why, now), Step{Act: Stop, Why: why}
	}
	step := Step{At: s.Probe.Next}
	switch {
	case v.Box.Paused:
		return s.to(Degraded, "it is paused; docker unpause lets it go on", now), Step{}
	case s.Probe.Under:
		step = Step{}
	case d.Ready.Kind == probe.None:
		if s.ReadyAt.IsZero() {
			s.ReadyAt = now
		}
		step = Step{}
	case !now.Before(s.Probe.Next):
		step = Step{Act: Probe}
	}
	return s.health(d, p, v, now), step
}

// renew says why it is to be ended and started anew; "" = it is not.
func (s State) renew(p Policy, v View) string {
	switch {
	case s.Renew:
		return "it is started anew"
	case !v.Box.Current:
		return "its definition has changed"
	case s.silent(p, v):
		return fmt.Sprintf("it does not answer any more: %s", s.Probe.Last.Detail)
	}
	for _, n := range v.Needs {
		was := s.Partner[n.Name]
		if n.Restart && n.Met && was.ID != "" && n.Epoch.ID != "" && n.Epoch != was {
			return "it is started anew with " + n.Name
		}
	}
	return ""
}

// silent says that one that had answered does not any more.
func (s State) silent(p Policy, v View) bool {
	return !s.ReadyAt.IsZero() && p.MostSilent > 0 && s.Probe.Fails >= p.MostSilent && !v.Box.Paused
}

// health is the phase of one that runs.
func (s State) health(d Definition, p Policy, v View, now time.Time) State {
	if d.Once {
		return s.to(Probing, "it does its work, which is to be done once", now)
	}
	if s.ReadyAt.IsZero() {
		detail := s.Probe.Last.Detail
		if now.Sub(s.Epoch.Started) > d.startTimeout(p) {
			return s.to(Degraded, fmt.Sprintf("it runs, and has not answered for %s: %s", now.Sub(s.Epoch.Started).Round(time.Second), detail), now)
		}
		return s.to(Probing, detail, now)
	}
	if s.Probe.Fails > 0 {
		return s.to(Ready, "it did not answer just now: "+s.Probe.Last.Detail, now)
	}
	if why := unmet(v.Needs); why != "" {
		return s.to(Degraded, why, now)
	}
	return s.to(Ready, "", now)
}
