package envmgr

import (
	"cmp"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

// Definition is what a service is. Two that are equal make the same container.
type Definition struct {
	// Name is how other containers reach it, and the container's, too, unless that has
	// one of its own.
	Name      string
	Container string
	Image     string
	// Command and Entrypoint take the place of the image's; nil = the image's.
	Command, Entrypoint []string
	Env                 []string // "K=V"
	Ports               []Port
	Volumes             []Volume
	// User is "uid:gid"; "" = the image's.
	User string
	// Networks are those that it is in; none = the Supervisor's own.
	Networks []Network
	// Host has the container use the host's network, where it needs no ports.
	Host bool
	// Hostname is what the service calls itself; "" = the engine's choice.
	Hostname string
	WorkDir  string
	// StopSignal is what it is asked to end with; "" = the image's.
	StopSignal string
	// CapDrop, CapAdd and NoNewPrivileges narrow what root may do in it.
	CapDrop, CapAdd []string
	NoNewPrivileges bool
	ReadOnly        bool // its root file system
	Init            bool // an init that reaps is put before it
	MemBytes        int64
	CPUMilli        int64
	ShmBytes        int64
	Labels          map[string]string // beside ours

	Needs []Need
	// Ready is how it is found out whether the service answers.
	Ready probe.Spec
	// Required services have to be ready before a start has succeeded.
	Required bool
	// Adopt: a container of this very name is taken under care, whoever has made it.
	Adopt bool
	// Once is for what does its work and ends: it is done with exit code 0.
	Once bool

	Limits
}

// Limits are the times that a service is given; zero ones are those of Defaults.
type Limits struct {
	StartTimeout time.Duration // from the start of its process until it answers
	StopTimeout  time.Duration // from the request to end until it is killed
}

// Network is one that services are in.
type Network struct {
	Name     string
	External bool // it is somebody else's, and is not made here
}

// container is the name of its container.
func (d Definition) containerName() string { return cmp.Or(d.Container, d.Name) }

// Port is one that is published on this host.
type Port struct {
	Address   string // of the host; "" = 127.0.0.1
	Host      int    // 0 = any that is free
	Container int
	UDP       bool
}

// Volume is something that stays when the container goes, or a file of this host.
type Volume struct {
	// Name is a volume of the engine's, Source a path of the host; one of the two.
	Name, Source string
	Target       string
	ReadOnly     bool
}

// Need is another service that has to be there first.
type Need struct {
	Name string
	When Condition
	// Restart has this service started anew after that one was.
	Restart bool
	// Optional: where that one is not wanted or has failed, this one starts without it.
	Optional bool
}

// Condition says when a need is met.
type Condition uint8

// The conditions, named as in compose files.
const (
	WhenReady   Condition = iota // service_healthy: it answers
	WhenStarted                  // service_started: it runs
	WhenDone                     // service_completed_successfully: it has ended with 0
)

// String returns the word of compose files.
func (c Condition) String() string {
	switch c {
	case WhenStarted:
		return "service_started"
	case WhenDone:
		return "service_completed_successfully"
	default:
		return "service_healthy"
	}
}
