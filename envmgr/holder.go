package envmgr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// whoHas adds to the error of a port that is taken who has it, as far as the engine knows.
func (s *Supervisor) whoHas(ctx context.Context, d Definition, id string, err error) error {
	if !errors.Is(err, docker.ErrPortTaken) {
		return err
	}
	all, failed := s.list(ctx)
	if failed != nil {
		return err // which is what matters
	}
	who := holders(d, id, all)
	if who == "" {
		who = "no container of this engine has it, so a process of its host has; there, as root, ss -ltnp says which"
	}
	return fmt.Errorf("%w; %s", err, who)
}

// holders names the containers that have ports which a service is to publish; "" = none.
func holders(d Definition, id string, all []docker.Listed) string {
	var found []string
	for _, c := range all {
		if c.ID == id {
			continue
		}
		for _, p := range d.Ports {
			if p.Host != 0 && slices.ContainsFunc(c.Ports, func(o docker.Published) bool { return o.Host == p.Host && o.UDP == p.UDP }) {
				found = append(found, fmt.Sprintf("container %s has port %d", c.Name, p.Host))
			}
		}
	}
	slices.Sort(found)
	return strings.Join(slices.Compact(found), ", ")
}
