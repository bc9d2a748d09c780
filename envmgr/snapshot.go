package envmgr

import (
	"net/netip"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// Status is how a service stands.
type Status struct {
	Name     string
	Image    string
	Required bool
	Want     Want
	Phase    Phase
	Since    time.Time // of the phase
	Reason   string    // a sentence; "" = the phase says it all
	// Hopeless: it will not be ready by itself: it has failed, or needs one that has.
	Hopeless bool
	// Late: it is in trouble for longer than a start may take; what can be is tried on.
	Late bool

	Container string // its id; "" = there is none
	Adopted   string // who has made it; "" = we have
	Started   time.Time
	ReadyAt   time.Time
	// Found: it ran before the Supervisor did, so when it was ready first nobody knows.
	Found    bool
	Ends     int // of late, which nobody had asked for
	Probe    string
	Needs    []string
	Ports    []docker.Published
	Networks map[string]netip.Addr
	Pull     docker.Progress // while the image is pulled
	Output   []string        // the last lines that it has printed, where it has failed
}

// Ready says that it answers, or has done its work.
func (s Status) Ready() bool { return s.Phase == Ready || s.Phase == Done }

// Settled says that nothing more is to be expected of a start, soon at least.
func (s Status) Settled() bool { return s.Phase.Settled() || s.Hopeless || s.Late }

// Snapshot is how all services stand at one moment.
type Snapshot struct {
	Serial uint64 // higher is later
	Away   string // why the engine does not answer; "" = it does
	Engine docker.Engine
	// Strays are containers of ours whose service is not defined any more.
	Strays   []string
	Services []Status // what is needed comes before who needs it
}

// Of returns the status of one.
func (s Snapshot) Of(name string) (Status, bool) {
	for _, one := range s.Services {
		if one.Name == name {
			return one, true
		}
	}
	return Status{}, false
}
