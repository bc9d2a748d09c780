package envmgr

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"

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
const hashForm = "1:"

// hash is the same for definitions that make the same container: what has to do with
// order, with probes and with time is not in it.
func (d Definition) hash() string {
	b, err := json.Marshal(struct {
		Image               string
		Command, Entrypoint []string
		Env                 []string
		Ports               []Port
		Volumes             []Volume
		User                string
		Container           string
		Networks            []Network
		Host                bool
		Hostname, WorkDir   string
		StopSignal          string
		CapDrop, CapAdd     []string
		NoNewPrivileges     bool
		ReadOnly, Init      bool
		Mem, CPU, Shm       int64
		Labels              map[string]string
	}{
		d.Image, d.Command, d.Entrypoint, d.Env, d.Ports, d.Volumes, d.User, d.Container, d.Networks, d.Host, d.Hostname, d.WorkDir, d.StopSignal, d.CapDrop, d.CapAdd,
		d.NoNewPrivileges, d.ReadOnly, d.Init, d.MemBytes, d.CPUMilli, d.ShmBytes, d.Labels,
	})
	if err != nil {
		panic(err) // it has nothing that cannot be written
	}
	sum := sha256.Sum256(b)
	return hashForm + hex.EncodeToString(sum[:12])
}

// labels are those of the container of a definition.
func (d Definition) labels(site string) map[string]string {
	out := maps.Clone(d.Labels)
	if out == nil {
		out = map[string]string{}
	}
	out[LabelSite], out[LabelService], out[LabelHash] = site, d.Name, d.hash()
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
		Name: d.containerName(), Aliases: []string{d.Name}, Hostname: d.Hostname, Labels: d.labels(site), Image: d.Image, Entrypoint: d.Entrypoint, Command: d.Command, Env: d.Env,
		Dir: d.WorkDir, User: d.User, Network: network, StopSignal: d.StopSignal, CapDrop: d.CapDrop, CapAdd: d.CapAdd,
		NoNewPrivs: d.NoNewPrivileges, ReadOnly: d.ReadOnly, Init: d.Init, MemBytes: d.MemBytes, CPUMilli: d.CPUMilli, ShmBytes: d.ShmBytes,
		LogBytes: logBytes, LogFiles: logFiles,
	}
	switch {
	case d.Host:
		s.Network, s.Aliases = "host", nil
	case len(d.Networks) > 0:
		s.Network = d.Networks[0].Name
	}
	for _, p := range d.Ports {
		if p.Address == "" {
			p.Address = "127.0.0.1"
		}
		s.Ports = append(s.Ports, docker.Published{Address: p.Address, Host: p.Host, Inside: p.Container, UDP: p.UDP})
	}
	for _, v := range d.Volumes {
		s.Mounts = append(s.Mounts, docker.ServiceMount{Volume: v.Name, Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly})
	}
	return s
}
