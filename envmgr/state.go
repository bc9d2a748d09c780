package envmgr

import (
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

// Want is what a service is to be.
type Want uint8

// The wants.
const (
	// Unasked: nobody has said. Who has just begun knows nothing of what was wanted, so
	// what runs is watched, and nothing is started or ended.
	Unasked Want = iota
	Down
	Up
)

// State is what is remembered of a service between two decisions.
type State struct {
	Want   Want
	Phase  Phase
	Since  time.Time // of the phase
	Reason string    // a sentence; "" = the phase says it all

	// Epoch is the life that is cared for, and Ended says that its end was seen.
	Epoch Epoch
	Ended bool
	// SeenAt is when that life was seen first. Its own beginning is by the engine's clock.
	SeenAt time.Time
	// ReadyAt is when it first answered; zero = it has not.
	ReadyAt time.Time
	Probe   ProbeState

	Ends      []time.Time // of the latest lives, as far as they count
	NotBefore time.Time   // nothing is tried before
	Tries     int         // that failed in a row
	// Broken is why nothing is tried any more; "" = something is.
	Broken string
	// Held is why it is in the way of somebody else; "" = it is not.
	Held string

	Doing   Act              // that is under way
	Asked   bool             // its end was asked for by us
	Silent  bool             // that was since it did not answer, which counts as an end of its own
	Renew   bool             // it is to be started anew: stop it first
	Partner map[string]Epoch // the lives of what it needs that it began with
}

// ProbeState is what is known by probes of the life that is cared for.
type ProbeState struct {
	Under bool      // one is under way
	Next  time.Time // when the next one is due
	Fails int       // in a row
	Mute  int       // those of them, in a row, that had no answer at all
	Count int       // all of them
	Last  probe.Result
	Start probe.Startup // how far its beginning is
}

// Act is something that is done for a service.
type Act uint8

// The acts.
const (
	Nothing Act = iota
	Pull
	Create
	Start
	Stop
	Remove
	Probe
)

// String returns a word for logs.
func (a Act) String() string {
	return [...]string{"nothing", "pull", "create", "start", "stop", "remove", "probe"}[a]
}

// Step is what is to be done next.
type Step struct {
	Act Act
	Why string
	// At is when to decide again if nothing else happens; zero = not by the clock.
	At time.Time
}

// Ask returns the state after somebody asked for the service to be up or down. It
// forgets the failures of before.
func (s State) Ask(w Want) State {
	if s.Want == w && s.Broken == "" && w == Up {
		s.NotBefore = time.Time{}
		return s
	}
	s.Want, s.Broken, s.Held, s.NotBefore, s.Tries, s.Ends = w, "", "", time.Time{}, 0, nil
	return s
}

// Again returns the state after somebody asked for it to be started anew.
func (s State) Again() State {
	s = s.Ask(Down).Ask(Up)
	s.Renew = true
	return s
}

// to sets the phase.
func (s State) to(p Phase, reason string, now time.Time) State {
	if s.Phase != p || s.Since.IsZero() {
		s.Phase, s.Since = p, now
	}
	s.Reason = reason
	return s
}

// notice takes in what is to be seen of lives that began and ended.
func (s State) notice(d Definition, p Policy, v View, now time.Time) State {
	e := v.Box.epoch()
	switch {
	case v.Box == nil && s.Epoch.ID != "" && !s.Ended:
		s = s.ended(p, now)
		s.Epoch = Epoch{}
	case v.Box == nil:
		s.Epoch, s.Ended = Epoch{}, true
	case e.ID == "": // it never ran
	case e != s.Epoch && v.Box.running():
		if s.Epoch.ID != "" && !s.Ended {
			s = s.ended(p, now) // somebody, or the engine, was faster than us
		}
		s.Epoch, s.Ended, s.Asked, s.Silent, s.Renew, s.Broken = e, false, false, false, false, ""
		s.SeenAt, s.ReadyAt, s.Probe, s.Held, s.Tries = now, time.Time{}, ProbeState{Next: now}, "", 0
		s.Partner = map[string]Epoch{}
		for _, n := range v.Needs {
			s.Partner[n.Name] = n.Epoch
		}
	case e != s.Epoch: // it ended before we saw it begin
		known := s.Epoch.ID != ""
		if known && !s.Ended {
			s = s.ended(p, now)
		} else if known && !s.Asked && e.Started.After(s.Epoch.Started) {
			s = s.ended(p, now)
		}
		s.Epoch, s.Ended = e, true
	case !v.Box.running() && !s.Ended:
		if d.Once && v.Box.Exit == 0 {
			s.Asked = true // which is how it is to end
		}
		s = s.ended(p, now)
	case v.Box.running() && s.Doing == Nothing: // what we asked for has not ended it
		s.Asked, s.Silent = false, false
	}
	if !s.ReadyAt.IsZero() && !s.Ended && s.Probe.Fails == 0 && now.Sub(s.ReadyAt) >= p.Healthy {
		s.Ends = nil
	}
	return s
}

// ended counts the end of a life, unless it was asked for.
func (s State) ended(p Policy, now time.Time) State {
	s.Ended, s.ReadyAt, s.Probe = true, time.Time{}, ProbeState{}
	uncounted := s.Asked && !s.Silent
	s.Asked, s.Silent = false, false
	if uncounted {
		return s
	}
	s.Ends = append(slices.DeleteFunc(slices.Clone(s.Ends), func(t time.Time) bool { return now.Sub(t) > p.EndWindow }), now)
	return s
}

// loops says that it has ended so often of late that one more start is of no use.
func (s State) loops(p Policy, now time.Time) bool {
	recent := 0
	for _, t := range s.Ends {
		if now.Sub(t) <= p.EndWindow {
			recent++
		}
	}
	return p.MostEnds > 0 && recent >= p.MostEnds
}
