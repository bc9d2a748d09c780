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
	c.work.Go(func() {
		err := c.perform(c.ctx, d, step.Act, seen, t)
		one := c.lookOnce(c.ctx, d)
		_ = c.call(c.ctx, func(c *care) { // else it is over, and the container tells what was done
			w.state = w.state.Did(d, step.Act, err, c.opts.Now())
			w.pull, w.acts = docker.Progress{}, w.acts+1
			w.looked = w.looked && err == nil // what was asked may have been done
			c.took(w, one)
			if err != nil && c.ctx.Err() == nil {
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
	select {
	case s.pulls <- struct{}{}:
		defer func() { <-s.pulls }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if _, err := s.opts.Engine.Image(ctx, d.Image); err == nil {
		return nil // another service wanted the same
	}
	var last time.Time
	return s.opts.Engine.Pull(ctx, d.Image, func(p docker.Progress) {
		if now := s.opts.Now(); now.Sub(last) > 200*time.Millisecond {
			last = now
			_ = s.call(ctx, func(c *care) { // else it is over
				c.services[d.Name].pull = p
				c.dirty = true
			})
		}
	})
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
