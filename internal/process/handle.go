package process

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/dspy-agent/dspy-agent/internal/host"
)

// handle is what task.Status.Handle holds: enough to say, on any host and after
// any restart, whether the process can still be there. Versions only add fields.
type handle struct {
	Version int `json:"v"`
	// Host is for people. In version 1 it was all there is to tell machines by.
	Host       string `json:"host"`
	Machine    string `json:"machine,omitempty"` // since version 2; see host.Identity
	Boot       string `json:"boot"`
	PIDs       uint64 `json:"pids,omitempty"` // since version 2; 0 = not known
	Supervisor string `json:"supervisor"`
	PID        int32  `json:"pid,omitempty"`
	Start      uint64 `json:"start,omitempty"` // ticks since boot
	Until      uint64 `json:"until,omitempty"` // since version 2: the start lies in Start..Until
	Cgroup     string `json:"cgroup,omitempty"`
}

// identity is where the attempt runs.
func (h handle) identity() host.Identity {
	return host.Identity{Machine: h.Machine, Boot: h.Boot, PIDs: h.PIDs, Name: h.Host}
}

const handleVersion = 2

// version1Window is how many ticks after Start a process may have begun whose
// handle says no more: it was written before the fork.
const version1Window = ticksPerSecond

func (h handle) encode() []byte {
	h.Version = handleVersion
	b, err := json.Marshal(h)
	if err != nil {
		panic(fmt.Sprintf("marshal handle: %v", err)) // plain fields cannot fail
	}
	return b
}

// decodeHandle reads a handle; false if it is none of ours.
func decodeHandle(b []byte) (handle, bool) {
	var h handle
	if json.Unmarshal(b, &h) != nil || h.Version < 1 {
		return handle{}, false
	}
	if h.Until < h.Start {
		h.Until = h.Start + min(version1Window, math.MaxUint64-h.Start)
	}
	return h, true
}

// whereabouts is where an attempt runs, seen from here.
type whereabouts uint8

const (
	// here means that its pid can be looked up.
	here whereabouts = iota
	// beforeBoot is this machine, which was restarted since: nothing of it runs.
	beforeBoot
	// otherPIDs is this machine, and a pid namespace that is not ours: the pid
	// says nothing, and its processes may not be visible from here.
	otherPIDs
	// elsewhere is another machine.
	elsewhere
)

// where says where the attempt runs that has the handle, for whoever is at id.
func (h handle) where(id host.Identity) whereabouts {
	switch {
	case h.Boot == id.Boot:
		return h.inNamespace(id)
	case h.Machine != "" && h.Machine == id.Machine:
		return beforeBoot
	case h.Machine == "" && h.Host == id.Name: // version 1
		return beforeBoot
	default:
		return elsewhere
	}
}

// inNamespace is where for a handle of our boot.
func (h handle) inNamespace(id host.Identity) whereabouts {
	switch {
	case h.PIDs != 0 && id.PIDs != 0:
		if h.PIDs == id.PIDs {
			return here
		}
		return otherPIDs
	case h.Machine == "" && h.Host != id.Name && !id.SeesAll():
		return otherPIDs // version 1, of another container most likely
	default:
		return here // at most the host was renamed
	}
}
