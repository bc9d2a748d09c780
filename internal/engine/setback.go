package engine

import "time"

// How long a step outside that failed is not tried again: twice as long each time.
const (
	firstSetback = time.Second
	lastSetback  = 10 * time.Second
)

// setback is a step outside that failed, as often as it did so in a row.
type setback struct {
	until time.Time // it is not tried again before
	wait  time.Duration
}

// again notes one more failure.
func (s setback) again(now time.Time) setback {
	wait := min(max(2*s.wait, firstSetback), lastSetback)
	return setback{until: now.Add(wait), wait: wait}
}

// The steps that a backend is asked for.
const (
	stepLaunch = "launch"
	stepStop   = "stop"
	stepForget = "forget"
)

// chore is one of them at one backend.
type chore struct{ backend, step string }

// setbacks are the chores that fail at present. The log says that one fails, and that it
// works again, but not each time.
type setbacks map[chore]setback

// held says whether a chore has failed so lately that it is not tried.
func (e *Engine) held(c chore) bool { return e.now().Before(e.setbacks[c].until) }

// failed notes that a chore failed, for so many tasks.
func (e *Engine) failed(c chore, tasks int, err error) {
	before, known := e.setbacks[c]
	e.setbacks[c] = before.again(e.now())
	if !known {
		e.log.Warn("a backend does not do what it is asked for; will try again, ever less often",
			keyBackend, c.backend, "step", c.step, "tasks", tasks, "error", err)
	}
}

// worked notes that a chore was done.
func (e *Engine) worked(c chore) {
	if _, failed := e.setbacks[c]; failed {
		delete(e.setbacks, c)
		e.log.Info("a backend does again what it is asked for", keyBackend, c.backend, "step", c.step)
	}
}

// settle closes the account of a chore of which nothing is left that fails.
func (e *Engine) settle(c chore, done bool) {
	if done {
		e.worked(c)
		return
	}
	delete(e.setbacks, c) // what failed has ended by itself
}

// stopping is how far the stop of an attempt has come. One that cannot be told says
// nothing about others, so each has its own setback.
type stopping struct {
	told time.Time // when its backend was told last; zero = never
	setback
}

// due says whether its backend is to be told now.
func (s stopping) due(now time.Time) bool {
	return now.Sub(s.told) >= repeatStop && !now.Before(s.until)
}
