package envmgr

import (
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// View is what is to be seen of a service. Next decides by it, and not by what was told
// by an event, which only says when to look.
type View struct {
	// Away is why the engine does not answer; "" = it does, and the rest is true.
	Away string
	// Missing: the engine does not have its image.
	Missing bool
	Box     *Box // its container; nil = there is none
	// Rival is somebody else's container of its name, in words; "" = there is none.
	Rival string
	Needs []NeedView
	Users []string // services that need it and run
}

// Box is the container of a service.
type Box struct {
	ID      string
	Adopted string // by whom it was made, if not by us; "" = by us
	// Current: it was made by the definition as it is now, or is not ours to compare.
	Current bool
	Phase   docker.Phase
	Paused  bool
	// Restarts: the engine starts it again by itself.
	Restarts bool
	// Restarting: it has ended, and the engine is about to do so.
	Restarting bool
	Exit       int
	OOM        bool
	Trouble    string // why it could not be started, in the engine's words
	Started    time.Time
	Finished   time.Time
}

// running says that there is a process.
func (b *Box) running() bool { return b != nil && b.Phase == docker.Running && !b.Restarting }

// restarting says that there is none, and that the engine is about to start one.
func (b *Box) restarting() bool { return b != nil && b.Restarting }

// epoch is one life of a container.
func (b *Box) epoch() Epoch {
	if b == nil || b.Started.IsZero() {
		return Epoch{}
	}
	return Epoch{ID: b.ID, Started: b.Started}
}

// Epoch is one life of a container: what was asked of another one is no answer.
type Epoch struct {
	ID      string
	Started time.Time
}

// NeedView is how a need stands.
type NeedView struct {
	Need
	Met bool
	// Why it is not met.
	Why string
	// Hopeless: it will not be by itself.
	Hopeless bool
	Epoch    Epoch // of the service that is needed
}
