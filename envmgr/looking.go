package envmgr

import (
	"context"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

const (
	// lookPatience bounds a look: an engine that hangs takes what is asked, and says nothing.
	lookPatience = 30 * time.Second
	// lookPause is how long after a look that failed there is another.
	lookPause = 2 * time.Second
)

// follow has the engine tell what happens.
func (s *Supervisor) follow(ctx context.Context) {
	s.opts.Engine.Follow(ctx, nil, docker.Handler{
		Up: s.lookAround,
		Event: func(e docker.Event) {
			for _, name := range s.servicesOf(e) {
				s.touch(name)
			}
		},
		Down: func(err error) {
			_ = s.call(ctx, func(c *care) { c.away(err) }) // it fails when ctx has ended
		},
	})
}

// lookAround looks at everything, once the engine answers.
func (s *Supervisor) lookAround(ctx context.Context, e docker.Engine) error {
	var acts map[string]int
	if err := s.call(ctx, func(c *care) { acts = c.acts() }); err != nil {
		return err
	}
	patient, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	all, err := s.look(patient)
	if err != nil {
		return err
	}
	return s.call(ctx, func(c *care) { c.seen(all, acts, e) })
}

// acts are how often something was done for each service.
func (c *care) acts() map[string]int {
	out := map[string]int{}
	for name, w := range c.services {
		out[name] = w.acts
	}
	return out
}

// seen takes in a look at everything, which began when so much had been done.
func (c *care) seen(all map[string]sighting, acts map[string]int, e docker.Engine) {
	c.engine, c.awayFor, c.dirty = e, "", true
	for name, one := range all {
		c.sighted(c.services[name], one, acts[name])
	}
}

// sighted takes in a look at one, which began when so much had been done. What was done
// since may have made it untrue: then it is looked at again.
func (c *care) sighted(w *ward, one sighting, acts int) {
	if w.acts == acts && w.state.Doing == Nothing {
		c.took(w, one)
	} else {
		w.stale = true
	}
	if w.stale {
		c.lookSoon(w)
	}
}

// took takes in a look at one.
func (c *care) took(w *ward, one sighting) {
	c.dirty = true
	if one.err != nil {
		w.seen.err, w.lookAt = one.err, c.opts.Now().Add(lookPause)
		return
	}
	w.seen, w.looked, w.lookAt = one, true, time.Time{}
}

// away takes in that the engine does not answer.
func (c *care) away(err error) {
	if c.awayFor == err.Error() {
		return
	}
	c.awayFor, c.dirty = err.Error(), true
	for _, w := range c.services {
		w.looked = false
	}
}

func (c *care) lookAtTouched() {
	c.mu.Lock()
	touched := c.touched
	c.touched = map[string]bool{}
	c.mu.Unlock()
	for name := range touched {
		if w := c.services[name]; w != nil {
			c.lookSoon(w)
		}
	}
}

// lookAgain has one looked at of which the last look has failed. It returns when that is
// due; zero = it is not.
func (c *care) lookAgain(w *ward, now time.Time) time.Time {
	if w.lookAt.IsZero() || now.Before(w.lookAt) {
		return w.lookAt
	}
	w.lookAt = time.Time{}
	c.lookSoon(w)
	return time.Time{}
}

// lookSoon has a service looked at: at once, or after what is done for it, or once more
// after the look that is under way.
func (c *care) lookSoon(w *ward) {
	if c.awayFor != "" {
		return // everything is looked at when it answers
	}
	if w.stale = w.looking || w.state.Doing != Nothing; w.stale {
		return
	}
	w.looking = true
	acts := w.acts
	c.work.Go(func() {
		one := c.lookPatiently(w.def)
		_ = c.call(c.ctx, func(c *care) { // else it is over
			w.looking = false
			c.sighted(w, one, acts)
		})
	})
}

func (c *care) lookPatiently(d Definition) sighting {
	ctx, cancel := context.WithTimeout(c.ctx, lookPatience)
	defer cancel()
	return c.lookOnce(ctx, d)
}
