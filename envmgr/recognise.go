package envmgr

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// found is what a list of containers has for a service.
type found struct {
	id      string
	adopted string
	rival   string
}

// recognise says which container is which service's: by our labels, then by those of
// docker compose, then, where the definition allows it, by the exact name. A container
// of the name that is neither is somebody else's.
func recognise(d Definition, site, project string, all []docker.Listed) found {
	var composed []docker.Listed
	var named *docker.Listed
	for i, c := range all {
		switch {
		case c.Labels[LabelSite] == site && c.Labels[LabelService] == d.Name:
			return found{id: c.ID}
		case c.Labels[composeService] == d.Name && !strings.EqualFold(c.Labels[composeOneoff], "true") && (project == "" || c.Labels[composeProject] == project):
			composed = append(composed, c)
		case c.Name == d.containerName():
			named = &all[i]
		}
	}
	switch {
	case len(composed) == 1:
		return found{id: composed[0].ID, adopted: "docker compose (project " + composed[0].Labels[composeProject] + ")"}
	case len(composed) > 1:
		return found{rival: fmt.Sprintf("several containers of docker compose are this service (%s); compose_project says which project is meant", namesOf(composed))}
	case named == nil:
		return found{}
	case named.Labels[LabelSite] != "":
		return found{rival: fmt.Sprintf("container %s is a service of somebody else (site %s); have them end it, or give yours another name", named.Name, named.Labels[LabelSite])}
	case d.Adopt:
		return found{id: named.ID, adopted: "somebody, by its name"}
	default:
		return found{rival: fmt.Sprintf("there is a container %s that is not ours; docker rename %s OTHER, or take it under care with adopt = true", named.Name, named.Name)}
	}
}

func namesOf(all []docker.Listed) string {
	var names []string
	for _, c := range all {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// servicesOf says which services an event may be about, by all that recognise goes by: what
// it is called now, what it was called before it was renamed, and its labels.
func (s *Supervisor) servicesOf(e docker.Event) (names []string) {
	site := e.Labels[LabelSite] == s.opts.Site
	called := []string{e.Labels["name"], strings.TrimPrefix(e.Labels["oldName"], "/")}
	for _, name := range s.opts.Set.order {
		d := s.opts.Set.byName[name]
		if site && e.Labels[LabelService] == name || e.Labels[composeService] == name || slices.Contains(called, d.containerName()) {
			names = append(names, name)
		}
	}
	return names
}

// strays names the containers of this site whose service nobody defines any more.
func strays(set Set, site string, all []docker.Listed) (names []string) {
	for _, c := range all {
		if _, known := set.Get(c.Labels[LabelService]); c.Labels[LabelSite] == site && !known {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	return names
}

// boxOf is what is to be seen of a container; made is the hash of what its service is now.
func boxOf(made string, c docker.Service, adopted string) *Box {
	b := &Box{
		ID: c.ID, Adopted: adopted, Phase: c.Phase, Paused: c.Paused, Restarts: c.Restarts, Restarting: c.Restarting, Exit: c.ExitCode, OOM: c.OOM, Trouble: c.Trouble,
		Started: c.Started, Finished: c.Finished,
	}
	hash := c.Labels[LabelHash]
	b.Current = adopted != "" || !strings.HasPrefix(hash, hashForm) || hash == made
	return b
}
