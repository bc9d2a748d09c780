package envmgr

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// begin has a step done, beside the goroutine that decides.
func (c *care) begin(w *ward, step Step) {
	w.state = w.state.Began(step.Act)
	c.dirty = true
	if step.Act == Probe {
		c.probe(w)
		return
	}
	d, seen, t := w.def, w.seen, c.ties(w)
	c.opts.Logger.Debug("step", "service", d.Name, "act", step.Act.String(), "reason", step.Why)
	ctx, cancel := context.WithCancel(c.ctx)
	w.cancel = cancel
	c.work.Go(func() {
		defer cancel()
		err := c.perform(ctx, d, step.Act, seen, t)
		one := c.lookPatiently(d)
		_ = c.call(c.ctx, func(c *care) { // else it is over, and the container tells what was done
			w.state = w.state.Did(d, step.Act, err, c.opts.Now())
			w.pull, w.queued, w.acts = docker.Progress{}, false, w.acts+1
			w.looked = false // what was seen before may be so no more
			c.took(w, one)
			if w.stale {
				c.lookSoon(w)
			}
			if err != nil && ctx.Err() == nil {
				c.opts.Logger.Warn("a step failed", "service", d.Name, "act", step.Act.String(), "error", err)
			}
		})
	})
}

// actPatience bounds what is asked of the engine in one step, beside the time that a
// service is given to end.
const actPatience = 2 * time.Minute

// perform does one step. Each may be done twice: what is there already is left.
func (s *Supervisor) perform(ctx context.Context, d Definition, a Act, seen sighting, t ties) error {
	if a == Pull {
		return s.pull(ctx, d)
	}
	release, err := s.slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, actPatience+d.stopTimeout(s.opts.Policy))
	defer cancel()
	box := seen.box
	switch a {
	case Create:
		return s.whoHas(ctx, d, "", s.create(ctx, d, t))
	case Start:
		return s.whoHas(ctx, d, box.ID, s.start(ctx, d, box, t))
	case Stop:
		return s.opts.Engine.Stop(ctx, box.ID, d.stopTimeout(s.opts.Policy))
	case Remove:
		if box.Adopted != "" {
			return errors.New("a container that somebody else has made is not removed") // and Next does not ask for it
		}
		return s.opts.Engine.RemoveService(ctx, box.ID)
	default:
		return nil
	}
}

// slot waits until another container may be dealt with.
func (s *Supervisor) slot(ctx context.Context) (release func(), err error) {
	if s.slots == nil {
		return func() {}, nil
	}
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// create makes a container and starts it: one that was only made is started by the next
// step.
func (s *Supervisor) create(ctx context.Context, d Definition, t ties) error {
	if err := s.ensureNetworks(ctx, s.networks(d)); err != nil {
		return err
	}
	image, err := s.opts.Engine.Image(ctx, d.Image)
	if err != nil {
		return err
	}
	spec := d.container(s.opts.Site, s.opts.Network)
	spec.Mounts = append(spec.Mounts, d.undeclared(image.Volumes)...)
	id, err := s.opts.Engine.CreateService(ctx, spec)
	if err != nil {
		return told(err)
	}
	if err := s.connect(ctx, d, id, t.join); err != nil {
		return err
	}
	return told(s.opts.Engine.Start(ctx, id))
}

// start starts a container, in the networks that it is to be in.
func (s *Supervisor) start(ctx context.Context, d Definition, box *Box, t ties) error {
	if box.Adopted == "" {
		if err := s.ensureNetworks(ctx, s.networks(d)); err != nil {
			return err
		}
		if err := s.connect(ctx, d, box.ID, t.join); err != nil {
			return err
		}
	}
	for _, l := range t.bring {
		if err := s.opts.Engine.JoinNetwork(ctx, l.network, l.container, l.alias); err != nil {
			return told(err)
		}
	}
	return told(s.opts.Engine.Start(ctx, box.ID))
}

// pull fetches the image of a service.
func (s *Supervisor) pull(ctx context.Context, d Definition) error {
	release, err := s.pullSlot(ctx, d)
	if err != nil {
		return err
	}
	defer release()
	if _, err := s.opts.Engine.Image(ctx, d.Image); err == nil {
		return nil // another service wanted the same
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(pullPatience, func() {
		cancel(fmt.Errorf("%w: nothing has come of %s for %s", docker.ErrRegistryAway, d.Image, pullPatience))
	})
	defer stalled.Stop()
	var last time.Time
	err = s.opts.Engine.Pull(ctx, d.Image, func(p docker.Progress) {
		stalled.Reset(pullPatience)
		if now := s.opts.Now(); now.Sub(last) > 200*time.Millisecond {
			last = now
			_ = s.call(ctx, func(c *care) { // else it is over
				c.services[d.Name].pull = p
				c.dirty = true
			})
		}
	})
	if err != nil && errors.Is(context.Cause(ctx), docker.ErrRegistryAway) {
		return context.Cause(ctx)
	}
	return err
}

// pullPatience is how long nothing may come of an image before its pull is given up, and
// tried again: a registry that hangs is not to keep others waiting for ever.
const pullPatience = 3 * time.Minute

// pullSlot waits until another image may be pulled.
func (s *Supervisor) pullSlot(ctx context.Context, d Definition) (release func(), err error) {
	release = func() { <-s.pulls }
	select {
	case s.pulls <- struct{}{}:
		return release, nil
	default:
	}
	queued := func(is bool) error {
		return s.call(ctx, func(c *care) {
			c.services[d.Name].queued, c.dirty = is, true
		})
	}
	if err := queued(true); err != nil {
		return nil, err
	}
	select {
	case s.pulls <- struct{}{}:
		if err := queued(false); err != nil {
			release()
			return nil, err
		}
		return release, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// probe asks a service whether it answers.
func (c *care) probe(w *ward) {
	d, e, target := w.def, w.state.Epoch, c.target(w.seen.service)
	spec := d.question(c.opts.Policy)
	c.work.Go(func() {
		r := probe.Run(c.ctx, spec, target)
		_ = c.call(c.ctx, func(c *care) { // else it is over
			before := w.state.Probe
			w.state = w.state.Probed(d, c.opts.Policy, e, r, c.opts.Now())
			c.dirty = c.dirty || before.Last.Detail != r.Detail
		})
	})
}

// question is what the service is asked. The policy's timeout is for who answers at its
// port: a command has to be started first, and the engine to be asked.
func (d Definition) question(p Policy) probe.Spec {
	spec := d.Ready
	if spec.Timeout == 0 && spec.Kind.Dials() {
		spec.Timeout = p.ProbeTimeout
	}
	return spec
}

// execs shows an engine to probes.
type execs struct{ Engine }

// Health asks for the container's own check.
func (e execs) Health(ctx context.Context, id string) (status, output string, err error) {
	c, err := e.InspectService(ctx, id)
	if err != nil {
		return "", "", fmt.Errorf("ask for its health: %w", err)
	}
	return c.Health, c.HealthLog, nil
}
