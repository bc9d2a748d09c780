package envmgr

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
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
	d, box, partners := w.def, w.seen.box, c.partners(w)
	c.opts.Logger.Debug("step", "service", d.Name, "act", step.Act.String(), "reason", step.Why)
	c.work.Go(func() {
		err := c.perform(c.ctx, d, step.Act, box, partners)
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

// nameless are the networks of every engine in which containers do not know one another
// by name.
var nameless = []string{"bridge", "host", "none"}

// partners are the networks of adopted containers that a service needs.
func (c *care) partners(w *ward) (networks []string) {
	for _, n := range w.def.Needs {
		other := c.services[n.Name]
		if other == nil || other.seen.box == nil || other.seen.box.Adopted == "" {
			continue
		}
		for name := range other.seen.service.Networks {
			if !slices.Contains(nameless, name) {
				networks = append(networks, name)
			}
		}
	}
	return networks
}

// actPatience bounds what is asked of the engine in one step, beside the time that a
// service is given to end.
const actPatience = 2 * time.Minute

// perform does one step. Each may be done twice: what is there already is left.
func (s *Supervisor) perform(ctx context.Context, d Definition, a Act, box *Box, partners []string) error {
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
	switch a {
	case Create:
		return s.create(ctx, d, partners)
	case Start:
		return s.opts.Engine.Start(ctx, box.ID)
	case Stop:
		return s.opts.Engine.Stop(ctx, box.ID, d.stopTimeout(s.opts.Policy))
	case Remove:
		if box.Adopted != "" {
			return errors.New("a container that somebody else has made is not removed") // and Next does not ask for it
		}
		return s.opts.Engine.Remove(ctx, box.ID)
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
func (s *Supervisor) create(ctx context.Context, d Definition, partners []string) error {
	networks := d.Networks
	if len(networks) == 0 && !d.Host {
		networks = []Network{{Name: s.opts.Network}}
	}
	for _, n := range networks {
		if err := s.ensureNetwork(ctx, n); err != nil {
			return err
		}
	}
	id, err := s.opts.Engine.CreateService(ctx, d.container(s.opts.Site, s.opts.Network))
	if err != nil {
		return err
	}
	in := map[string]bool{}
	for i, n := range networks {
		if in[n.Name] = true; i > 0 {
			if err := s.opts.Engine.JoinNetwork(ctx, n.Name, id, d.Name); err != nil {
				return err
			}
		}
	}
	for _, name := range partners {
		if d.Host || in[name] {
			continue
		}
		if err := s.opts.Engine.JoinNetwork(ctx, name, id, d.Name); err != nil {
			return err
		}
	}
	return s.opts.Engine.Start(ctx, id)
}

func (s *Supervisor) ensureNetwork(ctx context.Context, n Network) error {
	if n.External {
		return nil // the engine says so where it is missing
	}
	s.network.Lock()
	defer s.network.Unlock()
	return s.opts.Engine.EnsureNetwork(ctx, n.Name, map[string]string{LabelSite: s.opts.Site})
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
	d, e, seen := w.def, w.state.Epoch, w.seen
	spec := d.Ready
	if spec.Timeout == 0 {
		spec.Timeout = c.opts.Policy.ProbeTimeout
	}
	c.work.Go(func() {
		r := probe.Run(c.ctx, spec, c.target(seen.service))
		_ = c.call(c.ctx, func(c *care) { // else it is over
			before := w.state.Probe
			w.state = w.state.Probed(d, c.opts.Policy, e, r, c.opts.Now())
			c.dirty = c.dirty || before.Last.Detail != r.Detail
		})
	})
}

// target is where the container of a service is reached.
func (s *Supervisor) target(c docker.Service) probe.Target {
	addr, published := s.address(c)
	return probe.Target{Container: c.ID, Engine: execs{s.opts.Engine}, Addr: addr, Published: published, Dial: s.opts.Dial}
}

func (s *Supervisor) address(c docker.Service) (addr func(port int) string, published bool) {
	if c.HostNet {
		return func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }, false
	}
	if !s.opts.Inside {
		for _, ip := range c.Networks {
			if ip.IsValid() {
				return func(port int) string { return netip.AddrPortFrom(ip, uint16(port)).String() }, false
			}
		}
	}
	return func(port int) string {
		for _, p := range c.Ports {
			if p.Inside == port && !p.UDP {
				return net.JoinHostPort(dialable(p.Address), strconv.Itoa(p.Host))
			}
		}
		return ""
	}, true
}

// dialable is where what is bound to an address is reached.
func dialable(bound string) string {
	if ip, err := netip.ParseAddr(bound); err == nil && !ip.IsUnspecified() {
		return bound
	}
	return "127.0.0.1"
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
