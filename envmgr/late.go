package envmgr

import "time"

// judge finds out whether a service is late: in trouble, or in wait for one that is, for
// longer than a start may take. Whoever waits for a start gives up then; the supervisor
// does not. It returns when to judge again; zero = not by the clock.
func (c *care) judge(w *ward, now time.Time) (at time.Time) {
	was, limit := w.late, w.def.startTimeout(c.opts.Policy)
	switch {
	case w.state.Want == Down, w.state.Phase.Settled():
		w.trouble = time.Time{}
	case w.trouble.IsZero() && w.state.troubled():
		w.trouble = now
	}
	w.late = w.state.Phase == Degraded && w.state.unanswered(w.def, c.opts.Policy, now) || w.state.Phase == Waiting && c.waitsForLate(w)
	if !w.trouble.IsZero() {
		at = w.trouble.Add(limit)
		if !now.Before(at) {
			w.late, at = true, time.Time{}
		}
	}
	c.dirty = c.dirty || w.late != was
	return at
}

// troubled says that it is not on its way to be ready. Only to be ready ends a trouble: one
// that ends over and over is on its way again and again.
func (s State) troubled() bool {
	switch s.Phase {
	case EngineAway, Blocked, Degraded, BackingOff:
		return true
	default:
		return s.held() != ""
	}
}

// waitsForLate says that what it waits for is late.
func (c *care) waitsForLate(w *ward) bool {
	for _, n := range w.def.Needs {
		if other := c.services[n.Name]; other != nil && other.late && !c.need(n).Met {
			return true
		}
	}
	return false
}
