package services

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/spelling"
)

// Set returns the services that are there: the built-in ones and others with what the
// configuration says about them, and its own. owner is the "uid:gid" that Prometheus runs
// as, prometheusConfig the file that it reads. The others are defined elsewhere, in compose
// files; one that is named like a built-in one takes its place. An error is like that of
// config.Load: everything that is wrong, each with its key and line.
func Set(c config.Config, owner, prometheusConfig string, others ...envmgr.Definition) (envmgr.Set, error) {
	m := newMaking(c, prometheusConfig)
	return m.set(definitions(c, owner, prometheusConfig, others))
}

// Check says what is wrong with the services of a configuration, as Set does, without a
// look into compose files.
func Check(c config.Config) error {
	// Whose Prometheus, and with which file, makes no difference to what is wrong.
	const owner, file = "0:0", "/prometheus.yml"
	m := newMaking(c, file)
	m.open = len(c.EnvManager.ComposeFiles) > 0
	_, err := m.set(definitions(c, owner, file, nil))
	return err
}

// definitions are those that are known before the configuration says anything.
func definitions(c config.Config, owner, prometheusConfig string, others []envmgr.Definition) []envmgr.Definition {
	all := envmgr.Builtin(owner, prometheusConfig)
	for i, d := range all {
		if d.StartTimeout > 0 { // what a site gives to all, those that are slow are given as well
			all[i].StartTimeout = max(d.StartTimeout, c.EnvManager.HealthTimeout)
		}
	}
	for _, d := range others {
		all = slices.DeleteFunc(all, func(o envmgr.Definition) bool { return o.Name == d.Name })
		all = append(all, d)
	}
	return all
}

func newMaking(c config.Config, made string) *making {
	return &making{conf: c, made: made, known: map[string]bool{}, off: map[string]bool{}}
}

func (m *making) set(all []envmgr.Definition) (envmgr.Set, error) {
	m.collect(all)
	m.needs()
	m.apart()
	if err := config.Invalid(m.problems); err != nil {
		return envmgr.Set{}, err
	}
	set, err := envmgr.NewSet(m.all)
	if err != nil {
		m.circle(err)
		return envmgr.Set{}, config.Invalid(m.problems)
	}
	return set, nil
}

// making is a set that is being made.
type making struct {
	conf     config.Config
	made     string              // the file on this host that is made for Prometheus
	open     bool                // there are services that are not known here
	all      []envmgr.Definition // those that are enabled
	known    map[string]bool     // all names that somebody may mean
	off      map[string]bool     // the disabled ones
	problems []config.Problem
}

// problem complains about a key of a service; "" is the service as a whole, which also
// stands for a key that was not given.
func (m *making) problem(name, key, format string, args ...any) {
	p := config.Problem{Key: config.ServiceKey(name, key), Text: fmt.Sprintf(format, args...)}
	from := m.conf.Source(p.Key)
	if from.Kind == config.FromDefault {
		from = m.conf.Source(config.ServiceKey(name, ""))
	}
	if from.Kind == config.FromFile {
		p.File, p.Line = from.Name, from.Line
	}
	m.problems = append(m.problems, p)
}

// collect takes the services that are defined already, and the configuration's own, as the
// configuration has them.
func (m *making) collect(defined []envmgr.Definition) {
	theirs := maps.Clone(m.conf.Services)
	for _, d := range defined {
		m.known[d.Name] = true
	}
	for _, d := range defined {
		s, said := theirs[d.Name]
		delete(theirs, d.Name)
		if !said {
			m.all = append(m.all, d)
			continue
		}
		m.add(d, s, false)
	}
	for _, name := range slices.Sorted(maps.Keys(theirs)) {
		if theirs[name].Image == "" {
			m.strange(name)
			continue
		}
		m.known[name] = true
		m.add(envmgr.Definition{Name: name}, theirs[name], true)
	}
}

// strange complains about something said of a service that there is not.
func (m *making) strange(name string) {
	if m.open {
		m.known[name] = true
		return
	}
	key, known := config.ServiceKey(name, ""), slices.Sorted(maps.Keys(m.known))
	if meant := spelling.Nearest(name, known, 2); meant != "" {
		m.problem(name, "", "%s: there is no service %s, and a new one needs an image; did you mean %s?", key, name, config.ServiceKey(meant, ""))
		return
	}
	m.problem(name, "", "%s: there is no service %s, and a new one needs an image: add %s; there are %s", key, name, config.ServiceKey(name, "image"), strings.Join(known, ", "))
}

func (m *making) add(d envmgr.Definition, s config.Service, isNew bool) {
	if !s.Enabled {
		m.off[d.Name] = true
		return
	}
	o := override{making: m, said: s, isNew: isNew}
	m.all = append(m.all, o.apply(d))
}

// needs looks whether what is needed is there.
func (m *making) needs() {
	for i, d := range m.all {
		for _, n := range d.Needs {
			switch {
			case n.Optional:
			case m.open && !slices.ContainsFunc(m.all, func(o envmgr.Definition) bool { return o.Name == n.Name }) && !m.off[n.Name]:
				// Whether that is there, who knows all of them will see.
				m.all[i].Needs = slices.DeleteFunc(slices.Clone(m.all[i].Needs), func(o envmgr.Need) bool { return o.Name == n.Name })
			case m.off[n.Name]: // said below, once
			case n.Name == d.Name:
				m.problem(d.Name, "depends_on", "%s has %s itself; leave that out", config.ServiceKey(d.Name, "depends_on"), d.Name)
			case !m.known[n.Name]:
				m.unknownNeed(d.Name, n.Name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.off)) {
		if users := m.users(name); len(users) > 0 {
			m.problem(name, "enabled", "%s is false, but %s cannot do without %s; disable what needs it as well, or leave it out of depends_on there", config.ServiceKey(name, "enabled"), strings.Join(users, ", "), name)
		}
	}
}

// users are the enabled services that cannot do without one, directly or not.
func (m *making) users(name string) []string {
	without := map[string]bool{name: true}
	var out []string
	for found := true; found; {
		found = false
		for _, d := range m.all {
			if !without[d.Name] && slices.ContainsFunc(d.Needs, func(n envmgr.Need) bool { return without[n.Name] && !n.Optional }) {
				found, without[d.Name] = true, true
				out = append(out, d.Name)
			}
		}
	}
	return out
}

func (m *making) unknownNeed(name, need string) {
	key, known := config.ServiceKey(name, "depends_on"), slices.Sorted(maps.Keys(m.known))
	if meant := spelling.Nearest(need, known, 2); meant != "" {
		m.problem(name, "depends_on", "%s has %q, which is no service; did you mean %s?", key, need, meant)
		return
	}
	m.problem(name, "depends_on", "%s has %q, which is no service; there are %s", key, need, strings.Join(known, ", "))
}

// apart looks at each service beside those before it, whatever they need. Those about
// which nothing was said come first, so that it is the others that are complained about.
func (m *making) apart() {
	var good []envmgr.Definition
	wrong := func(d envmgr.Definition) error {
		d.Needs = nil
		_, err := envmgr.NewSet(append(slices.Clone(good), d))
		return err
	}
	for _, said := range []bool{false, true} {
		for _, d := range m.all {
			if _, ok := m.conf.Services[d.Name]; ok != said {
				continue
			}
			err := wrong(d)
			if err == nil {
				d.Needs = nil
				good = append(good, d)
				continue
			}
			key := ""
			if bare := d; len(bare.Ports) > 0 {
				if bare.Ports = nil; wrong(bare) == nil {
					key = "ports"
				}
			}
			m.problem(d.Name, key, "%s: %s", config.ServiceKey(d.Name, key), err)
		}
	}
}

// circle complains about services that need each other: where the configuration has
// closed the circle, if it can be told.
func (m *making) circle(err error) {
	for i, d := range m.all {
		if !m.conf.IsGiven(config.ServiceKey(d.Name, "depends_on")) {
			continue
		}
		without := slices.Clone(m.all)
		without[i].Needs = nil
		if _, still := envmgr.NewSet(without); still == nil {
			m.problem(d.Name, "depends_on", "%s: %s", config.ServiceKey(d.Name, "depends_on"), err)
			return
		}
	}
	m.problems = append(m.problems, config.Problem{Text: err.Error()})
}
