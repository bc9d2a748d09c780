package scheduler

import (
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Snapshot is all that Plan looks at.
type Snapshot struct {
	Now      task.Instant
	Classes  map[string]Class
	Backends map[string]Backend
	Capacity Capacity
	// Used is what active tasks hold, those placed ahead excepted.
	Used Usage
	// Running counts the active tasks of each class, those placed ahead excepted.
	Running map[string]int
	// Ahead counts, by class, the tasks that are placed ahead of a free slot.
	Ahead map[string]int
	// On counts the active tasks of each backend.
	On map[string]int
	// Uneven counts the active local tasks that hold more or less than one CPU, or run
	// in a container, those placed ahead excepted.
	Uneven int
	// Heads are the first tasks of each shape, in the order of the line.
	Heads []Head
	// GPUs tells of this machine's GPUs, always the same; it is asked at most once by
	// a Planner, and only for a task that needs one. nil = none are given out.
	GPUs func() GPUs
	// Least is, for each class of which something waits, less than which no waiting
	// task of it needs: each field by itself, over all of them. It spares a Planner
	// to look at shapes that cannot start. nil = not known.
	Least map[string]Usage
}

// Class is what the configuration says about a class of tasks.
type Class struct {
	Name string
	// Parallel is how many tasks of the class may be active; 0 = only the
	// machine's capacity bounds it.
	Parallel int
	Backends []string // best first
	// Patience is how long a task waits for room on this machine before a backend that
	// is elsewhere, and comes later in Backends, may have it.
	Patience time.Duration
	Paused   *task.Pause // nil = it is not paused
	// Shut says why this owner of the queue places nothing of the class; "" = it does.
	Shut string
	// AheadPerSlot is how many tasks may be placed ahead for each CPU.
	// The engine raises it above 0 only for classes whose tasks have been short.
	AheadPerSlot int
}

// Backend is what the engine knows about a backend at this moment.
type Backend struct {
	Name    string
	Down    string // why nothing can be placed on it; "" = it can
	Local   bool   // uses this machine's Capacity
	Image   bool   // runs container images
	NoImage bool   // runs tasks without an image
	Most    int    // how many tasks it may have at a time; 0 = any number
	NoGPUs  string // why tasks on it cannot have this machine's GPUs; "" = they can
	Hosts   []Host // one of them has to hold a task; none = it is not asked for
	// Images is how it stands with the images that waiting tasks need, by name; nil =
	// it needs no image to be fetched before a task is placed.
	Images map[string]Image
}

// Capacity is what this machine has for tasks.
type Capacity struct {
	CPUMilli int64
	MemBytes int64 // 0 = not counted
}

// Usage is how much of a Capacity is held.
type Usage struct {
	CPUMilli int64
	MemBytes int64
}

// Head is a waiting task, with what placing it depends on.
type Head struct {
	Seq       task.Seq
	ID        string
	Attempt   int
	Order     task.Instant
	Since     task.Instant // when it could first have been placed
	Class     string
	Shape     string
	Resources task.Resources
	Image     string
	Backends  []string // the task's own choice; empty = its class's
	// Limit is how long it holds what it is given at most; 0 = nothing ends it.
	Limit time.Duration
}

// Placement is a task that starts now.
type Placement struct {
	Seq     task.Seq
	Attempt int
	Backend string
	Lease   task.Lease
}

// Refusal is a task that can never start.
type Refusal struct {
	Seq     task.Seq
	Attempt int
	Class   task.FailureClass
	Reason  string // a sentence for people
}

// Decision is the answer of Plan.
type Decision struct {
	Place []Placement
	// Refuse is what can never start.
	Refuse []Refusal
	// Waits says, for each shape of which something was not placed, why its
	// first task waits.
	Waits map[string]Wait
	// Look: something could be placed on a GPU once there is a newer look at them.
	Look bool
	// Soon: a task waits for a GPU, and what is in its way may be over in seconds.
	Soon bool
	// Next is when the patience of a task is over, and somebody else may have it; 0 = of none.
	Next task.Instant
}

// Wait is why the first task of a shape waits.
type Wait struct {
	Seq    task.Seq
	Reason string // a sentence for people, without the task's name
}

// Image is how a backend stands with a container image that a task needs. One of which
// nothing is said has not been looked for yet.
type Image struct {
	Ready bool // it is there
	// Bad says that it can never be had, so that tasks that need it fail.
	Bad bool
	// Busy says that it is being looked for or fetched, and not only waited for.
	Busy bool
	// Why says how it is, where it is not Ready, as a sentence that begins with it.
	Why string
}
