package envmgr

import (
	"cmp"
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
	case s.Want == Unasked:
		return s.watch(d, p, v, now)
	case s.Want == Down:
		return s.down(v, now)
	default:
		return s.up(d, p, v, now)
	}
}

// doing is the phase while an act is under way. Why the last attempt has failed is said
// until one does not.
func (s State) doing(now time.Time) State {
	switch s.Doing {
	case Pull:
		return s.to(Pulling, s.held(), now)
	case Create:
		return s.to(Creating, s.held(), now)
	case Start:
		return s.to(Starting, s.held(), now)
	case Stop, Remove:
		return s.to(Stopping, s.Reason, now)
	default:
		return s
	}
}

// watch looks on, and neither starts nor ends it.
func (s State) watch(d Definition, p Policy, v View, now time.Time) (State, Step) {
	switch {
	case v.Box.running():
		s, step := s.ask(d, v, now)
		return s.health(d, p, v, now), step
	case v.Box.restarting():
		return s.leftToEngine(p, v, now), Step{}
	default:
		return s.to(Stopped, "", now), Step{}
	}
}

// down ends it, after those that need it.
func (s State) down(v View, now time.Time) (State, Step) {
	switch {
	case !v.Box.running() && !v.Box.restarting():
		return s.to(Stopped, "", now), Step{}
	case len(v.Users) > 0:
		return s.to(Stopping, "waits for "+strings.Join(v.Users, ", ")+" to end first", now), Step{}
	case now.Before(s.NotBefore):
		return s.to(Stopping, s.held(), now), Step{At: s.NotBefore}
	default:
		return s.to(Stopping, s.held(), now), Step{Act: Stop, Why: "it is not wanted any more"}
	}
}

// held is why what is to be done has not been done yet.
func (s State) held() string { return cmp.Or(s.Broken, s.Held) }

func (s State) up(d Definition, p Policy, v View, now time.Time) (State, Step) {
	switch {
	case v.Rival != "":
		return s.to(Blocked, v.Rival, now), Step{}
	case v.Box.running():
		return s.tend(d, p, v, now)
	case v.Box.restarting():
		return s.leftToEngine(p, v, now), Step{}
	case s.Broken != "":
		return s.to(Failed, s.Broken, now), Step{}
	case d.Once && v.Box != nil && s.Ended && v.Box.Exit == 0 && v.Box.Current && !s.Renew && !v.Box.Finished.IsZero():
		return s.to(Done, "", now), Step{}
	case p.MostEnds > 0 && len(s.Ends) >= p.MostEnds:
		s.Broken = s.ends(p, v) + "; mend it, then start it again"
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

// ends says how often it has ended, and how.
func (s State) ends(p Policy, v View) string {
	return fmt.Sprintf("it ended %d times within %s, the last time %s", len(s.Ends), p.EndWindow, v.Box.ending())
}

// leftToEngine is the phase of one that the engine is about to start again by itself.
// To start or end it then would be to fight over it.
func (s State) leftToEngine(p Policy, v View, now time.Time) State {
	if s.loops(p, now) {
		return s.to(BackingOff, s.ends(p, v)+"; the engine goes on to start it", now)
	}
	return s.to(BackingOff, "the engine starts it again; it ended "+v.Box.ending(), now)
}

// begins is when it may be started again: after what failed, after its last end, and
// after the engine had the time to do so itself where that is how it was made.
func (s State) begins(d Definition, p Policy, v View) time.Time {
	at := s.NotBefore
	if n := len(s.Ends); n > 0 {
		at = later(at, s.Ends[n-1].Add(p.delay(d.Name, n)))
		if v.Box != nil && v.Box.Restarts { // by our clock: the engine may have another
			at = later(at, s.Ends[n-1].Add(doubled(100*time.Millisecond, time.Minute, n-1)+2*time.Second))
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
	why := s.renew(p, v)
	switch {
	case why == "": // what was in the way of ending it does not matter any more
		s.Broken, s.Held, s.Tries = "", "", 0
	case s.Broken != "" || now.Before(s.NotBefore):
	case v.Missing && !v.Box.Current:
		return s.to(Pulling, why, now), Step{Act: Pull, Why: why}
	default:
		s.Silent = s.silent(p, v)
		return s.to(Stopping, why, now), Step{Act: Stop, Why: why}
	}
	s, step := s.ask(d, v, now)
	if why == "" {
		return s.health(d, p, v, now), step
	}
	if s.Broken == "" && (step.At.IsZero() || s.NotBefore.Before(step.At)) {
		step.At = s.NotBefore
	}
	if held := s.held(); held != "" {
		why += "; but " + held
	}
	return s.to(Degraded, why, now), step
}

// ask has it probed when that is due.
func (s State) ask(d Definition, v View, now time.Time) (State, Step) {
	switch {
	case v.Box.Paused, s.Probe.Under:
		return s, Step{}
	case d.Ready.Kind == probe.None:
		if s.ReadyAt.IsZero() {
			s.ReadyAt = now
		}
		return s, Step{}
	case !now.Before(s.Probe.Next):
		return s, Step{Act: Probe}
	default:
		return s, Step{At: s.Probe.Next}
	}
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

// silent says that one that had answered does not any more. One that answers that it is
// not well is not silent: to start it anew could cost it what it is busy with.
func (s State) silent(p Policy, v View) bool {
	return !s.ReadyAt.IsZero() && p.MostSilent > 0 && s.Probe.Mute >= p.MostSilent && !v.Box.Paused
}

// mostUnwell is how often in a row one may be asked in vain before it is not ready any more.
const mostUnwell = 3

// health is the phase of one that runs.
func (s State) health(d Definition, p Policy, v View, now time.Time) State {
	detail := s.Probe.Last.Detail
	switch {
	case v.Box.Paused:
		return s.to(Degraded, "it is paused; docker unpause lets it go on", now)
	case d.Once:
		return s.to(Probing, "it does its work, which is to be done once", now)
	case v.Box.Restarts && s.loops(p, now):
		return s.to(Degraded, s.ends(p, v)+"; the engine has started it again", now)
	case s.unanswered(d, p, now):
		return s.to(Degraded, fmt.Sprintf("it runs, and has not answered within %s: %s", d.startTimeout(p), detail), now)
	case s.ReadyAt.IsZero():
		return s.to(Probing, detail, now)
	case s.Probe.Fails >= mostUnwell && s.Probe.Last.Alive:
		return s.to(Degraded, "it answers, and is not well: "+detail, now)
	case s.Probe.Fails >= mostUnwell:
		return s.to(Degraded, "it does not answer any more: "+detail, now)
	case s.Probe.Fails > 0 && s.Probe.Last.Alive:
		return s.to(Ready, "it was not well just now: "+detail, now)
	case s.Probe.Fails > 0:
		return s.to(Ready, "it did not answer just now: "+detail, now)
	}
	if why := unmet(v.Needs); why != "" {
		return s.to(Degraded, why, now)
	}
	return s.to(Ready, "", now)
}

// unanswered says that it runs for longer than it may take until it answers, and has not.
func (s State) unanswered(d Definition, p Policy, now time.Time) bool {
	return s.ReadyAt.IsZero() && !s.Ended && now.Sub(s.SeenAt) > d.startTimeout(p)
}
