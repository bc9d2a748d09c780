package envmgr

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// Labels of the containers and networks that we make. They have no secrets: whoever may
// use the engine may read them.
const (
	// LabelSite says whose services these are.
	LabelSite = "dev.dspy-agent.site"
	// LabelService is the name of the service.
	LabelService = "dev.dspy-agent.service"
	// LabelHash is what the container was made by; another form of it has another prefix.
	LabelHash = "dev.dspy-agent.hash"
)

// Labels of docker compose, old and new, which we read and never write: it takes what
// carries them for its own.
const (
	composeService = "com.docker.compose.service"
	composeProject = "com.docker.compose.project"
	composeOneoff  = "com.docker.compose.oneoff"
)

// hashForm is the first part of a hash. A container whose hash has another form was made
// by another release: it is not made anew for that.
const hashForm = "2:"

// hash is the same for definitions that make the same container: what has to do with
// order, with probes and with time is not in it, and neither is whether something was
// left out or said as it is anyway. network is the Supervisor's own.
func (d Definition) hash(network string) string {
	networks := d.Networks
	if len(networks) == 0 && !d.Host {
		networks = []Network{{Name: network}}
	}
	b, err := json.Marshal(struct {
		Image           string
		Command         []string          `json:",omitempty"`
		Entrypoint      []string          // an empty one takes away the image's
		Env             []string          `json:",omitempty"`
		Ports           []Port            `json:",omitempty"`
		Volumes         []Volume          `json:",omitempty"`
		User, Container string            `json:",omitempty"`
		Networks        []Network         `json:",omitempty"`
		Host            bool              `json:",omitempty"`
		Hostname        string            `json:",omitempty"`
		WorkDir         string            `json:",omitempty"`
		StopSignal      string            `json:",omitempty"`
		CapDrop, CapAdd []string          `json:",omitempty"`
		NoNewPrivileges bool              `json:",omitempty"`
		ReadOnly, Init  bool              `json:",omitempty"`
		Mem, CPU, Shm   int64             `json:",omitempty"`
		Labels          map[string]string `json:",omitempty"`
	}{
		d.Image, d.Command, d.Entrypoint, d.Env, d.bound(), d.Volumes, d.User, d.containerName(), networks, d.Host, d.Hostname, d.WorkDir, d.StopSignal, d.CapDrop, d.CapAdd,
		d.NoNewPrivileges, d.ReadOnly, d.Init, d.MemBytes, d.CPUMilli, d.ShmBytes, d.Labels,
	})
	if err != nil {
		panic(err) // it has nothing that cannot be written
	}
	sum := sha256.Sum256(b)
	return hashForm + hex.EncodeToString(sum[:12])
}

// bound are its ports, each with the address that is meant.
func (d Definition) bound() (ports []Port) {
	for _, p := range d.Ports {
		p.Address = cmp.Or(p.Address, here)
		ports = append(ports, p)
	}
	return ports
}

// labels are those of the container of a definition.
func (d Definition) labels(site, network string) map[string]string {
	out := maps.Clone(d.Labels)
	if out == nil {
		out = map[string]string{}
	}
	out[LabelSite], out[LabelService], out[LabelHash] = site, d.Name, d.hash(network)
	return out
}

// What the engine keeps of a service's output.
const (
	logBytes = 50 << 20
	logFiles = 5
)

// container is what is made of a definition.
func (d Definition) container(site, network string) docker.ServiceSpec {
	s := docker.ServiceSpec{
		Name: d.containerName(), Aliases: []string{d.Name}, Hostname: d.Hostname, Labels: d.labels(site, network), Image: d.Image, Entrypoint: d.Entrypoint, Command: d.Command, Env: d.Env,
		Dir: d.WorkDir, User: d.User, Network: network, StopSignal: d.StopSignal, CapDrop: d.CapDrop, CapAdd: d.CapAdd,
		NoNewPrivs: d.NoNewPrivileges, ReadOnly: d.ReadOnly, Init: d.Init, MemBytes: d.MemBytes, CPUMilli: d.CPUMilli, ShmBytes: d.ShmBytes,
		LogBytes: logBytes, LogFiles: logFiles,
	}
	switch {
	case d.Host:
		s.Network, s.Aliases = "host", nil
	case len(d.Networks) > 0:
		s.Network = d.Networks[0].Name
		if slices.Contains(nameless, s.Network) {
			s.Aliases = nil // which are refused there
		}
	}
	for _, p := range d.bound() {
		s.Ports = append(s.Ports, docker.Published{Address: p.Address, Host: p.Host, Inside: p.Container, UDP: p.UDP})
	}
	for _, v := range d.Volumes {
		s.Mounts = append(s.Mounts, docker.ServiceMount{Volume: v.Name, Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly})
	}
	return s
}
