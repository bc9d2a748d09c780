package envmgr

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// nameless are the networks of every engine in which containers do not know one another
// by name, and which are always there.
var nameless = []string{"bridge", "host", "none"}

// ties are the networks that tell a container of others, beside those of its definition.
type ties struct {
	// join are the networks of adopted containers that it needs, or that need it.
	join []string
	// bring are the containers that an adopted one needs, which are to be in its networks.
	bring []link
}

// link is a container in a network.
type link struct{ network, container, alias string }

// ties finds them. Who made an adopted container knew nothing of ours, and we do not
// move it: it is ours that join its networks.
func (c *care) ties(w *ward) (t ties) {
	var others []string
	for _, n := range w.def.Needs {
		others = append(others, n.Name)
	}
	for _, name := range append(others, c.opts.Set.Users(w.def.Name)...) {
		if other := c.services[name]; other != nil && other.seen.adopted() {
			t.join = append(t.join, namesIn(other.seen.service)...)
		}
	}
	slices.Sort(t.join)
	t.join = slices.Compact(t.join)
	if !w.seen.adopted() {
		return t
	}
	for _, name := range others {
		other := c.services[name]
		if other == nil || other.seen.box == nil || other.seen.adopted() || other.def.Host {
			continue
		}
		for _, network := range namesIn(w.seen.service) {
			if _, in := other.seen.service.Networks[network]; !in {
				t.bring = append(t.bring, link{network, other.seen.box.ID, name})
			}
		}
	}
	return t
}

// adopted says that somebody else has made the container.
func (s sighting) adopted() bool { return s.box != nil && s.box.Adopted != "" }

// namesIn are the networks of a container in which names mean something.
func namesIn(c docker.Service) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(c.Networks)), func(name string) bool { return slices.Contains(nameless, name) })
}

// networks are those that a container of ours is to be in.
func (s *Supervisor) networks(d Definition) []Network {
	switch {
	case d.Host:
		return nil
	case len(d.Networks) == 0:
		return []Network{{Name: s.opts.Network}}
	default:
		return d.Networks
	}
}

// ensureNetworks makes those of our networks that are missing.
func (s *Supervisor) ensureNetworks(ctx context.Context, all []Network) error {
	s.network.Lock()
	defer s.network.Unlock()
	for _, n := range all {
		if n.External {
			continue // the engine says so where it is missing
		}
		if err := s.opts.Engine.EnsureNetwork(ctx, n.Name, map[string]string{LabelSite: s.opts.Site}); err != nil {
			return err
		}
	}
	return nil
}

// connect has a container of ours be in all its networks: one that was made by a step
// which came to no end lacks some, and one whose network was removed and made again still
// means the old one.
func (s *Supervisor) connect(ctx context.Context, d Definition, id string, more []string) error {
	if d.Host {
		return nil
	}
	var names []string
	for _, n := range s.networks(d) {
		names = append(names, n.Name)
	}
	for _, name := range append(names, more...) {
		if slices.Contains(nameless, name) {
			continue // made in it, or refused
		}
		if err := s.opts.Engine.JoinNetwork(ctx, name, id, d.Name); err != nil {
			return told(err)
		}
	}
	return nil
}

// told says what to do about a network that is missing and that we do not make.
func told(err error) error {
	if errors.Is(err, docker.ErrNoNetwork) {
		return fmt.Errorf("%w; it is not made here: docker network create makes it, and docker compose its own", err)
	}
	return err
}
