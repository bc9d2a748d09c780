package task

import "fmt"

// Seq numbers the tasks of one queue in the order in which they were accepted,
// from 1. It is the key of everything that is stored about a task.
type Seq uint64

// State is how far the current attempt of a task has come. The values are
// ordered, so that a state is a logical clock, and spaced, so that a state can
// be added between two others without renumbering what is on disk.
type State uint8

// The states, in order. The last four end an attempt.
const (
	// Pending waits: for its turn, a dependency, a time, a resource.
	Pending State = 16
	// Assigned has a backend and a lease. Nothing may have been started yet.
	Assigned State = 32
	// Starting was handed to its backend, which has given a handle to find it
	// again. A job that waits inside Slurm is here.
	Starting State = 48
	// Running was seen to run.
	Running State = 64
	// Stopping is being ended by us: cancelled, or over its time limit.
	Stopping State = 80
	// Succeeded ended by itself with exit code 0.
	Succeeded State = 96
	// Failed ended badly, or could not be started.
	Failed State = 97
	// Cancelled was ended because somebody asked for it.
	Cancelled State = 98
	// Lost may have run, but nobody saw how it ended.
	Lost State = 99
)

// States lists every state in order.
var States = []State{Pending, Assigned, Starting, Running, Stopping, Succeeded, Failed, Cancelled, Lost}

var stateNames = map[State]string{
	Pending: "pending", Assigned: "assigned", Starting: "starting", Running: "running", Stopping: "stopping",
	Succeeded: "succeeded", Failed: "failed", Cancelled: "cancelled", Lost: "lost",
}

// String returns the lower-case name that people and JSON see.
func (s State) String() string {
	if n, ok := stateNames[s]; ok {
		return n
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Terminal says whether the state ends an attempt.
func (s State) Terminal() bool { return s >= Succeeded }

// Active says whether a backend may hold something for the task: from Assigned
// until its end. A lease exists exactly while this is true.
func (s State) Active() bool { return s >= Assigned && s < Succeeded }

// rank is the position on the logical clock. All ends share one position:
// whichever is seen first stands.
func (s State) rank() uint8 {
	if s.Terminal() {
		return uint8(Succeeded)
	}
	return uint8(s)
}

// ParseState returns the state with that name.
func ParseState(name string) (State, bool) {
	for s, n := range stateNames {
		if n == name {
			return s, true
		}
	}
	return 0, false
}

// The four status strings of the gRPC and HTTP contracts. Clients in the field
// loop until they see one of the last two.
const (
	WirePending   = "pending"
	WireRunning   = "running"
	WireCompleted = "completed"
	WireFailed    = "failed"
)

// Wire maps the state to the contract's status. An attempt that failed but is
// followed by another never shows as failed, because Apply has moved the task
// to Pending in the same step.
func (s State) Wire() string {
	switch s {
	case Running, Stopping:
		return WireRunning
	case Succeeded:
		return WireCompleted
	case Failed, Cancelled, Lost:
		return WireFailed
	default:
		return WirePending
	}
}
