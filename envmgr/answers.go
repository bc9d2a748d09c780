package envmgr

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// Began returns the state while an act is under way.
func (s State) Began(a Act) State {
	switch a {
	case Nothing:
	case Probe:
		s.Probe.Under = true
	case Stop:
		s.Doing, s.Asked = a, true
	default:
		s.Doing = a
	}
	return s
}

// Did returns the state after an act, but for a probe, has come to its end. After an error
// nothing is tried for a while, whatever it was.
func (s State) Did(d Definition, a Act, err error, now time.Time) State {
	s.Doing = Nothing
	switch {
	case err == nil:
		s.Tries, s.Held, s.Broken = 0, "", ""
		return s
	case errors.Is(err, context.Canceled):
		return s // we gave it up ourselves
	}
	s.Tries++
	again := func(first, last time.Duration) {
		s.NotBefore = now.Add(spread(doubled(first, last, s.Tries-1), d.Name, s.Tries))
	}
	s.Held = err.Error()
	switch {
	case errors.Is(err, docker.ErrAway), errors.Is(err, docker.ErrForbidden):
		s.Tries-- // it says nothing about the service
		s.NotBefore = now.Add(awayPause)
	case errors.Is(err, docker.ErrPortTaken):
		again(blockFirst, blockLast)
	case errors.Is(err, docker.ErrDiskFull):
		s.Held = fmt.Sprintf("%s; make room there: docker system df says what takes it", err)
		s.NotBefore = now.Add(diskPause)
	case errors.Is(err, docker.ErrRegistryAway):
		again(pullFirst, pullLast)
	case errors.Is(err, docker.ErrNoImage) && a == Create && s.Tries < mostTries: // it went between the look and now
		again(failFirst, failLast)
	case lasting(err):
		s.Broken = advice(d, err)
		s.NotBefore = now.Add(brokenPause)
	case s.Tries >= mostTries:
		s.Broken = fmt.Sprintf("%s (%d times)", err, s.Tries)
		s.NotBefore = now.Add(brokenPause)
	default:
		again(failFirst, failLast)
	}
	return s
}

// mostTries is how often in a row something may fail of which nobody knows why.
const mostTries = 8

// lasting says that to try again is of no use.
func lasting(err error) bool {
	for _, kind := range []error{docker.ErrNoImage, docker.ErrUnauthorised, docker.ErrInvalid, docker.ErrNoProgram, docker.ErrNotExecutable, docker.ErrNoGPUs} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// advice says what to do about an error that stays.
func advice(d Definition, err error) string {
	switch {
	case errors.Is(err, docker.ErrNoImage):
		return fmt.Sprintf("its image %s is neither here nor at its registry (%s); build or load it, or name another one for the service", d.Image, docker.Words(err))
	case errors.Is(err, docker.ErrUnauthorised):
		return fmt.Sprintf("the registry of %s wants other credentials (%s): docker login", d.Image, docker.Words(err))
	default:
		return err.Error()
	}
}

// Probed returns the state after a probe of a life has answered. That of another life
// is no answer.
func (s State) Probed(d Definition, p Policy, e Epoch, r probe.Result, now time.Time) State {
	if e != s.Epoch || s.Ended {
		return s
	}
	q := &s.Probe
	q.Under = false
	if errors.Is(r.Err, probe.ErrNotAsked) || errors.Is(r.Err, context.Canceled) { // it says nothing about the service
		q.Next = now.Add(p.Doubt)
		return s
	}
	q.Last = r
	q.Count++
	if q.Mute++; r.Alive {
		q.Mute = 0
	}
	switch {
	case r.Ready:
		q.Fails, q.Mute = 0, 0
		if s.ReadyAt.IsZero() {
			s.ReadyAt = now
		}
		q.Next = now.Add(spread(p.Steady, d.Name, q.Count))
	case s.ReadyAt.IsZero():
		q.Fails++
		gap := q.Start.Next()
		if s.unanswered(d, p, now) {
			gap = p.Doubt
		}
		q.Next = now.Add(gap)
	default:
		q.Fails++
		q.Next = now.Add(p.Doubt)
	}
	q.Next = later(q.Next, now.Add(leftBehind(d.Ready, r, q.Fails)))
	return s
}

func (d Definition) startTimeout(p Policy) time.Duration {
	if d.StartTimeout > 0 {
		return d.StartTimeout
	}
	return p.StartTimeout
}

func (d Definition) stopTimeout(p Policy) time.Duration {
	if d.StopTimeout > 0 {
		return d.StopTimeout
	}
	return p.StopTimeout
}
