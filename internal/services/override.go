package services

import (
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/envmgr/probe"
	"github.com/dspy-agent/dspy-agent/internal/config"
)

// override is what is said about one service.
type override struct {
	*making
	said  config.Service
	isNew bool // nothing else defines it
}

func (o override) given(key string) bool {
	return o.conf.IsGiven(config.ServiceKey(o.said.Name, key))
}

// apply returns the definition with all that was said in place.
func (o override) apply(d envmgr.Definition) envmgr.Definition {
	s := o.said
	set(o, "required", &d.Required, s.Required)
	set(o, "adopt", &d.Adopt, s.Adopt)
	set(o, "image", &d.Image, s.Image)
	set(o, "command", &d.Command, orNil(s.Command))
	set(o, "entrypoint", &d.Entrypoint, orNil(s.Entrypoint))
	set(o, "depends_on", &d.Needs, needs(s.Needs))
	set(o, "user", &d.User, s.User)
	set(o, "start_timeout", &d.StartTimeout, s.StartTimeout)
	set(o, "stop_timeout", &d.StopTimeout, s.StopTimeout)
	set(o, "memory", &d.MemBytes, s.MemBytes)
	set(o, "cpus", &d.CPUMilli, s.CPUMilli)
	set(o, "volumes", &d.Volumes, o.volumes(d.Volumes))
	d.Env = environment(d.Env, s.Env)
	o.network(&d)
	o.ready(&d)
	return d
}

// set puts a value in its place if it was given.
func set[T any](o override, key string, place *T, v T) {
	if o.given(key) {
		*place = v
	}
}

func orNil(words []string) []string {
	if len(words) == 0 {
		return nil
	}
	return words
}

func needs(names []string) []envmgr.Need {
	var out []envmgr.Need
	for _, name := range names {
		out = append(out, envmgr.Need{Name: name})
	}
	return out
}

// volumes are those that were given, and the file that is made for the service, unless
// something else is in its place.
func (o override) volumes(before []envmgr.Volume) []envmgr.Volume {
	var out []envmgr.Volume
	for _, v := range o.said.Volumes {
		out = append(out, envmgr.Volume{Name: v.Name, Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly})
	}
	for _, v := range before {
		if v.Source == o.made && !slices.ContainsFunc(out, func(o envmgr.Volume) bool { return o.Target == v.Target }) {
			out = append(out, v)
		}
	}
	return out
}

// environment is the built-in variables with those that were said: of the same name in
// their place, others behind.
func environment(builtin, said []string) []string {
	out := slices.Clone(builtin)
	for _, kv := range said {
		name, _, _ := strings.Cut(kv, "=")
		if i := slices.IndexFunc(out, func(have string) bool { return strings.HasPrefix(have, name+"=") }); i >= 0 {
			out[i] = kv
			continue
		}
		out = append(out, kv)
	}
	return out
}

// network sets how the service is reached: by ports of its own, or as a program of the
// host. Built-in ports go where the host's network was asked for.
func (o override) network(d *envmgr.Definition) {
	name := o.said.Name
	set(o, "host_network", &d.Host, o.said.HostNetwork)
	if o.given("ports") {
		d.Ports = nil
		for _, p := range o.said.Ports {
			d.Ports = append(d.Ports, envmgr.Port{Address: p.Address, Host: p.Host, Container: p.Container, UDP: p.UDP})
		}
	}
	switch {
	case !d.Host || len(d.Ports) == 0:
	case !o.given("ports"):
		d.Ports = nil
	case o.given("host_network"):
		o.problem(name, "ports", "%s has no effect, since %s is true: the service listens on this host itself; leave out one of the two", config.ServiceKey(name, "ports"), config.ServiceKey(name, "host_network"))
		d.Ports = nil
	default:
		o.problem(name, "ports", "%s has no effect, since %s uses the host's network, where it listens itself; leave it out, or add %s = false", config.ServiceKey(name, "ports"), name, config.ServiceKey(name, "host_network"))
		d.Ports = nil
	}
}

// ready sets how it is found out whether the service answers.
func (o override) ready(d *envmgr.Definition) {
	if o.said.HealthCheckURL == "" {
		if o.isNew {
			d.Ready = firstPort(d.Ports)
		}
		return
	}
	spec, err := probe.ParseURL(o.said.HealthCheckURL)
	if err != nil {
		o.problem(d.Name, "health_check_url", "%s: %s", config.ServiceKey(d.Name, "health_check_url"), err)
		spec = probe.Spec{Kind: probe.None}
	}
	d.Ready = spec
}

// firstPort is how a service is asked of which nothing more is known.
func firstPort(ports []envmgr.Port) probe.Spec {
	for _, p := range ports {
		if !p.UDP {
			return probe.Spec{Kind: probe.TCP, Port: p.Container}
		}
	}
	return probe.Spec{Kind: probe.None}
}
