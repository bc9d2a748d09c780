package envmgr

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// What is wrong with definitions; errors.Is finds them.
var (
	ErrUnknownService = errors.New("there is no such service")
	ErrCycle          = errors.New("services need each other in a circle")
	ErrDefinition     = errors.New("the service is not well defined")
)

// Set is the services of a site. It does not change.
type Set struct {
	order  []string // what is needed comes before who needs it
	byName map[string]Definition
}

// nameForm is what Docker takes as a container's name, and DNS as a host's.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,62}$`)

// NewSet checks definitions and brings them into order. Each error names the service
// and what is wrong with it.
func NewSet(all []Definition) (Set, error) {
	s := Set{byName: map[string]Definition{}}
	for _, d := range all {
		if err := d.check(); err != nil {
			return Set{}, err
		}
		if _, twice := s.byName[d.Name]; twice {
			return Set{}, fmt.Errorf("%w: there are two named %s", ErrDefinition, d.Name)
		}
		s.byName[d.Name] = d
	}
	for _, d := range all {
		for _, n := range d.Needs {
			if _, ok := s.byName[n.Name]; !ok && !n.Optional {
				return Set{}, fmt.Errorf("%w: %s needs %q; there are %s", ErrUnknownService, d.Name, n.Name, strings.Join(s.names(), ", "))
			}
		}
	}
	if err := sameContainer(all); err != nil {
		return Set{}, err
	}
	if err := s.samePorts(all); err != nil {
		return Set{}, err
	}
	return s, s.sort(all)
}

func (d Definition) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: service %q: %s", ErrDefinition, d.Name, fmt.Sprintf(format, args...))
	}
	switch {
	case !nameForm.MatchString(d.Name):
		return bad("its name is to be made of a-z, 0-9, '-', '_' and '.', 63 characters at most")
	case d.Image == "":
		return bad("it has no image")
	case d.Host && len(d.Ports) > 0:
		return bad("it uses the host's network, where no port can be published; leave out one of the two")
	}
	for _, p := range d.Ports {
		if p.Container < 1 || p.Container > 65535 || p.Host < 0 || p.Host > 65535 {
			return bad("a port is between 1 and 65535, not %d:%d", p.Host, p.Container)
		}
	}
	for _, v := range d.Volumes {
		if (v.Name == "") == (v.Source == "") {
			return bad("what is mounted at %q is to be a volume or a path of this host", v.Target)
		}
		if !strings.HasPrefix(v.Target, "/") {
			return bad("the path %q in the container has to begin with /", v.Target)
		}
	}
	for _, e := range d.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return bad("its environment has %q, which is not NAME=VALUE", e)
		}
	}
	for i, n := range d.Needs {
		if n.Name == d.Name {
			return bad("it needs itself")
		}
		if slices.ContainsFunc(d.Needs[:i], func(o Need) bool { return o.Name == n.Name }) {
			return bad("it needs %s twice", n.Name)
		}
	}
	if err := d.Ready.Validate(); err != nil {
		return bad("%s", err)
	}
	return nil
}

// sameContainer refuses two services that would be one container.
func sameContainer(all []Definition) error {
	taken := map[string]string{}
	for _, d := range all {
		if other, ok := taken[d.containerName()]; ok {
			return fmt.Errorf("%w: services %s and %s would both be container %s; give one of them another container name", ErrDefinition, other, d.Name, d.containerName())
		}
		taken[d.containerName()] = d.Name
	}
	return nil
}

// samePorts refuses what could never run beside each other.
func (s Set) samePorts(all []Definition) error {
	type place struct {
		host int
		udp  bool
	}
	type holder struct{ service, address string }
	taken := map[place][]holder{}
	for _, d := range all {
		for _, p := range d.Ports {
			at := place{p.Host, p.UDP}
			if p.Host == 0 {
				continue
			}
			mine := holder{d.Name, cmp.Or(p.Address, "127.0.0.1")}
			for _, other := range taken[at] {
				if other.service != d.Name && (other.address == mine.address || everywhere(other.address) || everywhere(mine.address)) {
					return fmt.Errorf("%w: services %s and %s both want port %d of this host", ErrDefinition, other.service, d.Name, p.Host)
				}
			}
			taken[at] = append(taken[at], mine)
		}
	}
	return nil
}

// everywhere says that what is bound to an address has the port of all of them.
func everywhere(address string) bool {
	ip, err := netip.ParseAddr(address)
	return err == nil && ip.IsUnspecified()
}

// sort fills in the order: as given, but for what is needed.
func (s *Set) sort(all []Definition) error {
	done := map[string]bool{}
	var path []string
	var visit func(name string) error
	visit = func(name string) error {
		if done[name] {
			return nil
		}
		if i := slices.Index(path, name); i >= 0 {
			return fmt.Errorf("%w: %s", ErrCycle, strings.Join(append(path[i:], name), " needs "))
		}
		path = append(path, name)
		for _, n := range s.byName[name].Needs {
			if _, ok := s.byName[n.Name]; !ok {
				continue
			}
			if err := visit(n.Name); err != nil {
				return err
			}
		}
		path = path[:len(path)-1]
		done[name] = true
		s.order = append(s.order, name)
		return nil
	}
	for _, d := range all {
		if err := visit(d.Name); err != nil {
			return err
		}
	}
	return nil
}

// Names returns all names; what is needed comes before who needs it.
func (s Set) Names() []string { return slices.Clone(s.order) }

func (s Set) names() []string {
	var out []string
	for name := range s.byName {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Get returns a definition.
func (s Set) Get(name string) (Definition, bool) {
	d, ok := s.byName[name]
	return d, ok
}

// Known returns an error that names the first that is none, and those that are.
func (s Set) Known(names []string) error {
	for _, name := range names {
		if _, ok := s.byName[name]; !ok {
			return fmt.Errorf("%w: %q; there are %s", ErrUnknownService, name, strings.Join(s.names(), ", "))
		}
	}
	return nil
}

// With returns the services and all that they need, in order.
func (s Set) With(names []string) []string {
	want := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		if want[name] {
			return
		}
		want[name] = true
		for _, n := range s.byName[name].Needs {
			if _, ok := s.byName[n.Name]; ok && !n.Optional {
				add(n.Name)
			}
		}
	}
	for _, name := range names {
		add(name)
	}
	return slices.DeleteFunc(s.Names(), func(name string) bool { return !want[name] })
}

// Users returns the services that need one, directly.
func (s Set) Users(name string) []string {
	return slices.DeleteFunc(s.Names(), func(user string) bool {
		return !slices.ContainsFunc(s.byName[user].Needs, func(n Need) bool { return n.Name == name })
	})
}

// UsersOfAll returns the services that need one of these, directly or not.
func (s Set) UsersOfAll(names []string) []string {
	with := map[string]bool{}
	for _, name := range names {
		with[name] = true
	}
	var out []string
	for _, name := range s.order { // users come after what they need
		if with[name] {
			continue
		}
		if slices.ContainsFunc(s.byName[name].Needs, func(n Need) bool { return with[n.Name] }) {
			with[name] = true
			out = append(out, name)
		}
	}
	return out
}
