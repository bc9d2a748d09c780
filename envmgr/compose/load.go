package compose

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

// ErrUnsupported is what errors.Is finds when a file asks for something that is not
// understood here.
var ErrUnsupported = errors.New("not supported")

// Options say what is read.
type Options struct {
	Files    []string // later ones overlay earlier ones
	Profiles []string
	Env      []string // "K=V" for ${K}; a .env beside the first file comes after it
	Project  string   // "" = what the files say, or the name of their folder
	Network  string   // what the names of networks begin with that are made for it
}

// Loaded is what was read.
type Loaded struct {
	Project  string
	Services []envmgr.Definition
}

// Load reads services. The error has everything that is wrong, each with the name of its
// service and key.
func Load(ctx context.Context, o Options) (Loaded, error) {
	opts, err := cli.NewProjectOptions(o.Files, cli.WithEnv(o.Env), cli.WithEnvFiles(), cli.WithDotEnv, cli.WithProfiles(o.Profiles), cli.WithResolvedPaths(true), cli.WithName(o.Project))
	if err != nil {
		return Loaded{}, fmt.Errorf("read %s: %w", strings.Join(o.Files, ", "), err)
	}
	p, err := opts.LoadProject(ctx)
	if err != nil {
		return Loaded{}, fmt.Errorf("read %s: %w", strings.Join(o.Files, ", "), err)
	}
	out := Loaded{Project: p.Name}
	r := reader{project: p, network: o.Network}
	for _, name := range slices.Sorted(mapKeys(p.Services)) {
		out.Services = append(out.Services, r.service(p.Services[name]))
	}
	r.once(out.Services)
	return out, errors.Join(r.wrong...)
}

func mapKeys(all types.Services) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for name := range all {
			if !yield(name) {
				return
			}
		}
	}
}

// reader turns the services of a project into definitions, and collects what is wrong.
type reader struct {
	project *types.Project
	network string
	wrong   []error
}

func (r *reader) refuse(service, key, format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Errorf("service %s: %s is %w: %s", service, key, ErrUnsupported, fmt.Sprintf(format, args...)))
}

func (r *reader) service(s types.ServiceConfig) envmgr.Definition {
	d := envmgr.Definition{
		Name: s.Name, Container: s.ContainerName, Image: s.Image, Command: s.Command, Entrypoint: s.Entrypoint, User: s.User,
		Hostname: s.Hostname, WorkDir: s.WorkingDir, StopSignal: s.StopSignal, CapAdd: s.CapAdd, CapDrop: s.CapDrop, ReadOnly: s.ReadOnly,
		Init: s.Init != nil && *s.Init, MemBytes: int64(s.MemLimit), CPUMilli: int64(s.CPUS * 1000), ShmBytes: int64(s.ShmSize), Labels: s.Labels,
		Env: environment(s.Environment), Required: true,
	}
	for _, key := range strangers(s) {
		r.refuse(s.Name, key, "leave it out, or leave the service to docker compose, whose containers are taken under care as they are")
	}
	if s.StopGracePeriod != nil {
		d.StopTimeout = time.Duration(*s.StopGracePeriod)
	}
	r.deploy(s, &d)
	r.security(s, &d)
	r.ports(s, &d)
	r.volumes(s, &d)
	r.networks(s, &d)
	r.needs(s, &d)
	r.ready(s, &d)
	if n := s.GetScale(); n != 1 {
		r.refuse(s.Name, "scale", "a service is one container here, not %d", n)
	}
	return d
}

func environment(all types.MappingWithEquals) (env []string) {
	for k, v := range all {
		if v != nil { // else it is not set where the files are read
			env = append(env, k+"="+*v)
		}
	}
	slices.Sort(env)
	return env
}

// deploy takes the limits, which is all that has a meaning on one machine.
func (r *reader) deploy(s types.ServiceConfig, d *envmgr.Definition) {
	if s.Deploy == nil {
		return
	}
	if l := s.Deploy.Resources.Limits; l != nil {
		d.MemBytes = max(d.MemBytes, int64(l.MemoryBytes))
		d.CPUMilli = max(d.CPUMilli, int64(l.NanoCPUs*1000))
	}
	for what, v := range map[string]*types.Resource{"limits": s.Deploy.Resources.Limits, "reservations": s.Deploy.Resources.Reservations} {
		if v == nil {
			continue
		}
		key := "deploy.resources." + what
		if len(v.Devices) > 0 {
			r.refuse(s.Name, key+".devices", "devices are not given to services here")
		}
		if len(v.GenericResources) > 0 {
			r.refuse(s.Name, key+".generic_resources", "an engine knows none")
		}
		if v.Pids != 0 {
			r.refuse(s.Name, key+".pids", "the number of processes is not limited here; leave it out")
		}
	}
	if m := s.Deploy.Mode; m != "" && m != "replicated" {
		r.refuse(s.Name, "deploy.mode", "%q; a service is one container here", m)
	}
}

func (r *reader) security(s types.ServiceConfig, d *envmgr.Definition) {
	for _, o := range s.SecurityOpt {
		if key, value, _ := strings.Cut(o, ":"); key == "no-new-privileges" && (value == "" || value == "true") {
			d.NoNewPrivileges = true
			continue
		}
		r.refuse(s.Name, "security_opt", "of %q only no-new-privileges is understood", o)
	}
	if pull := s.PullPolicy; pull != "" && !slices.Contains([]string{types.PullPolicyMissing, types.PullPolicyIfNotPresent}, pull) {
		r.refuse(s.Name, "pull_policy", "%q; an image is pulled where it is missing, and only there (docker pull fetches a newer one)", pull)
	}
}

func (r *reader) ports(s types.ServiceConfig, d *envmgr.Definition) {
	for _, p := range s.Ports {
		host, err := strconv.Atoi(p.Published)
		if p.Published != "" && err != nil {
			r.refuse(s.Name, "ports", "%q is a range; name one port", p.Published)
			continue
		}
		if p.Protocol != "" && p.Protocol != "tcp" && p.Protocol != "udp" {
			r.refuse(s.Name, "ports", "protocol %q", p.Protocol)
			continue
		}
		address := p.HostIP
		if address == "" {
			address = "0.0.0.0" // which is what the file means, and what docker compose does
		}
		d.Ports = append(d.Ports, envmgr.Port{Address: address, Host: host, Container: int(p.Target), UDP: p.Protocol == "udp"})
	}
}

func (r *reader) volumes(s types.ServiceConfig, d *envmgr.Definition) {
	for _, v := range s.Volumes {
		one := envmgr.Volume{Target: v.Target, ReadOnly: v.ReadOnly}
		switch v.Type {
		case types.VolumeTypeVolume:
			if v.Source == "" {
				r.refuse(s.Name, "volumes", "the volume at %s has no name; give it one, or its data are lost with the container", v.Target)
				continue
			}
			one.Name = v.Source
			if top, ok := r.project.Volumes[v.Source]; ok {
				one.Name = cmp.Or(top.Name, v.Source)
				r.volume(s.Name, v.Source, top)
			}
			if o := v.Volume; o != nil && (o.NoCopy || o.Subpath != "" || len(o.Labels) > 0) {
				r.refuse(s.Name, "volumes", "nocopy, subpath or labels of what is mounted at %s", v.Target)
			}
		case types.VolumeTypeBind:
			one.Source = v.Source
			if o := v.Bind; o != nil && (o.Propagation != "" || o.SELinux != "" || o.Recursive != "") {
				r.refuse(s.Name, "volumes", "propagation, recursive, z or Z of what is mounted at %s", v.Target)
			}
		default:
			r.refuse(s.Name, "volumes", "type %s", v.Type)
			continue
		}
		d.Volumes = append(d.Volumes, one)
	}
}

// volume refuses what the files say of a volume and would not be so.
func (r *reader) volume(service, key string, v types.VolumeConfig) {
	switch {
	case bool(v.External):
		r.refuse(service, "volumes."+key+".external", "one that is missing is made here, empty; name it without external (name: %s): one that is there is used, and none is ever removed", cmp.Or(v.Name, key))
	case v.Driver != "" && v.Driver != "local" || len(v.DriverOpts) > 0:
		r.refuse(service, "volumes."+key, "driver or driver_opts; make it with docker volume create, and leave them out")
	}
}

// networks: compose's default network is the supervisor's own.
func (r *reader) networks(s types.ServiceConfig, d *envmgr.Definition) {
	switch s.NetworkMode {
	case "":
	case "host":
		d.Host = true
		return
	case "bridge":
		d.Networks = []envmgr.Network{{Name: "bridge", External: true}}
		return
	default:
		r.refuse(s.Name, "network_mode", "%q; host and bridge are understood", s.NetworkMode)
		return
	}
	var all []envmgr.Network
	for _, key := range s.NetworksByPriority() {
		all = append(all, r.networkOf(s.Name, key))
		if c := s.Networks[key]; c != nil {
			r.endpoint(s.Name, key, *c)
		}
	}
	if len(all) == 1 && all[0] == (envmgr.Network{Name: r.network}) {
		return // which needs no words
	}
	d.Networks = all
}

// networkOf is the network that a key of the files means.
func (r *reader) networkOf(service, key string) envmgr.Network {
	n := envmgr.Network{Name: r.network}
	if key != "default" {
		n.Name = r.network + "-" + key
	}
	top, ok := r.project.Networks[key]
	switch {
	case !ok:
	case bool(top.External):
		return envmgr.Network{Name: cmp.Or(top.Name, key), External: true}
	case top.Driver != "" && top.Driver != "bridge" || len(top.DriverOpts) > 0:
		r.refuse(service, "networks."+key, "driver or driver_opts; make it with docker network create, and say external")
	case top.Internal, top.Ipam.Driver != "" || len(top.Ipam.Config) > 0 || len(top.Ipam.Options) > 0, top.EnableIPv4 != nil, top.EnableIPv6 != nil:
		r.refuse(service, "networks."+key, "internal, ipam, enable_ipv4 or enable_ipv6; make it with docker network create, and say external")
	}
	return n
}

// endpoint refuses what a service says of itself in a network.
func (r *reader) endpoint(service, key string, c types.ServiceNetworkConfig) {
	c.Priority, c.Extensions = 0, nil // the one is heeded, the others mean nothing
	if !reflect.ValueOf(c).IsZero() {
		r.refuse(service, "networks."+key, "a service has its name in each of its networks, and the address that it is given; leave aliases, addresses and options out")
	}
}

func (r *reader) needs(s types.ServiceConfig, d *envmgr.Definition) {
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range s.DependsOn {
			if !yield(name) {
				return
			}
		}
	}) {
		on := s.DependsOn[name]
		n := envmgr.Need{Name: name, Restart: on.Restart, Optional: !on.Required}
		switch on.Condition {
		case types.ServiceConditionHealthy:
			n.When = envmgr.WhenReady
		case types.ServiceConditionCompletedSuccessfully:
			n.When = envmgr.WhenDone
		default:
			n.When = envmgr.WhenStarted
		}
		d.Needs = append(d.Needs, n)
	}
}

// once marks what others wait for to end.
func (r *reader) once(all []envmgr.Definition) {
	for _, d := range all {
		for _, n := range d.Needs {
			i := slices.IndexFunc(all, func(o envmgr.Definition) bool { return o.Name == n.Name })
			if n.When == envmgr.WhenDone && i >= 0 {
				all[i].Once = true
			}
		}
	}
}

// checkTimeout is how long a health check may take where the file does not say.
const checkTimeout = 30 * time.Second

// ready is how it is found out whether it answers: as its health check says, else by its
// first port, else it is ready when it runs.
func (r *reader) ready(s types.ServiceConfig, d *envmgr.Definition) {
	d.Ready = probe.Spec{Kind: probe.None}
	for _, p := range d.Ports {
		if !p.UDP {
			d.Ready = probe.Spec{Kind: probe.TCP, Port: p.Container}
			break
		}
	}
	h := s.HealthCheck
	if h == nil {
		return
	}
	if h.Disable || len(h.Test) > 0 && h.Test[0] == "NONE" {
		d.Ready = probe.Spec{Kind: probe.None}
		return
	}
	switch {
	case len(h.Test) == 0: // the image's own, with other times
		d.Ready = probe.Spec{Kind: probe.Health}
	case h.Test[0] == "CMD":
		d.Ready = probe.Spec{Kind: probe.Exec, Command: h.Test[1:]}
	case h.Test[0] == "CMD-SHELL":
		d.Ready = probe.Spec{Kind: probe.Exec, Command: []string{"/bin/sh", "-c", strings.Join(h.Test[1:], " ")}}
	default:
		d.Ready = probe.Spec{Kind: probe.Exec, Command: h.Test}
	}
	if d.Ready.Kind == probe.Exec {
		d.Ready.Timeout = checkTimeout
		if h.Timeout != nil {
			d.Ready.Timeout = max(time.Duration(*h.Timeout), probe.MinTimeout)
		}
	}
	if h.StartPeriod != nil {
		d.StartTimeout = time.Duration(*h.StartPeriod)
	}
	if h.Interval != nil && h.Retries != nil {
		d.StartTimeout += time.Duration(*h.Interval) * time.Duration(*h.Retries)
	}
}
