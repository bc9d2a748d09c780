package engine

import (
	"context"

	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Store is what the engine needs of the queue. Every method that changes
// something returns after the change is on disk.
type Store interface {
	Line
	Tasks
	Pauses
	Leased
	// Apply runs the changes through task.Apply, in order, in one transaction,
	// which it may share with whoever commits at the same moment. The answer has
	// one entry per change; one that task.Apply refused has it in Err and does
	// not disturb the others; nor does one about a task that is gone
	// (task.ErrRemoved) or cannot be read (task.ErrDamaged), whose entry has no Task. The error is for
	// the whole: nothing is on disk. The tasks may lack environment and payload.
	Apply(ctx context.Context, changes []task.Change) ([]task.Applied, error)
	// Advance does the work that time brings, a bounded piece per call: retries
	// whose time has come become ready, ended tasks release or refuse those that
	// wait for them. next is when something is due (0 = nothing is); more means
	// that another call at once would find work.
	Advance(ctx context.Context, now task.Instant) (next task.Instant, more bool, err error)
}

// Tasks are those that have been handed over, or are to be.
type Tasks interface {
	// Active returns every task from Assigned to Stopping, by Seq. They may lack
	// environment and payload.
	Active() ([]task.Task, error)
	// Get returns one task with all that belongs to it. The error matches
	// task.ErrDamaged when some of that cannot be read.
	Get(seq task.Seq) (task.Task, error)
}

// Leased is that somebody else may own the queue by now.
type Leased interface {
	// ConfirmLease returns nil if the queue still is ours to act for. It is cheap when
	// that was found out a moment ago.
	ConfirmLease() error
}

// Line is the ready tasks, in the order in which they are to start.
type Line interface {
	Demand
	// Line shows them to visit, the first of the line first, until it answers Stop;
	// after Skip no more of that shape, after SkipClass no more of that class. visit
	// does not call the Store.
	Line(visit func(scheduler.Head) scheduler.Verdict) error
	// Least says, for each class that has something in the line, less than which no
	// task of it needs.
	Least() map[string]scheduler.Usage
	// Head returns the first task of a shape; ok is false when none is ready.
	Head(shape string) (h scheduler.Head, ok bool, err error)
	// Position says how many ready tasks are before a task in the line; more means
	// that there may be others beyond that number.
	Position(seq task.Seq) (ahead int, more bool, err error)
}

// Demand is what waiting tasks need to be there before they are placed.
type Demand interface {
	// Images lists the images that tasks in the line need, in order. The list is not
	// changed any more; another version says that there may be another one.
	Images() (list []string, version uint64)
}

// Pauses are which classes are paused. They outlive the engine.
type Pauses interface {
	// Pause pauses a class. One that is paused already stays so as it was, and the
	// answer is the earlier Pause.
	Pause(ctx context.Context, class string, p task.Pause) (is task.Pause, already bool, err error)
	// Resume ends a Pause and returns it; ok is false when there was none.
	Resume(ctx context.Context, class string) (was task.Pause, ok bool, err error)
	Paused() map[string]task.Pause
}

// Backend runs attempts somewhere. Every step is named by task.Ref and is
// idempotent: doing it twice is doing it once. The suite in backendtest holds
// every backend to this text.
type Backend interface {
	// Name is the word in task.Status.Backend: "process", "container", "slurm".
	Name() string

	// Down says why nothing can be handed over now, for people; "" = it can.
	Down() string

	// Launch hands over tasks that are Assigned, with all that belongs to them. What becomes of them comes
	// through Watch: EventLaunched and so on, or EventNotStarted. Handing over an
	// attempt that was handed over before starts nothing; it repeats the reports.
	// After an error the engine does not know what was handed over, and calls
	// Launch again for all of them later.
	Launch(ctx context.Context, tasks []task.Task) error

	// Stop begins to end an attempt, which is Stopping (the task may lack environment
	// and payload, as in Watch): first politely, and after
	// the task's grace by force, everything that it started. It returns at once;
	// EventStopped comes through Watch when nothing is left of it, or EventExited
	// with Unprompted when the program had ended before. Stopping an attempt that
	// was handed over but not begun works too. Stop may be called again.
	Stop(ctx context.Context, t task.Task) error

	// Watch reports to sink until ctx ends, and returns nil then. It first reports
	// where each of the given active attempts stands, from EventLaunched on, with
	// EventVanished for those that were Starting or further and of which no trace
	// is left. An Assigned attempt of which it knows nothing is not reported: the
	// engine hands it over again. After a break of its own (the supervisor was
	// killed, the engine went away) Watch heals it and reports again; the sink
	// drops what it knows already. Sink is called by one goroutine at a time and
	// may block. Watch runs once per process.
	Watch(ctx context.Context, active []task.Task, sink func([]task.Change)) error

	// Forget says that the ends of these attempts are on disk: the backend may
	// drop what it kept to report them. Forgetting the unknown is no error.
	Forget(ctx context.Context, refs []task.Ref) error
}

// Fetcher is a Backend that has to fetch what tasks need before they can be placed on
// it. When that changes it calls the sink of Watch, with no changes if it has none.
type Fetcher interface {
	// Want says which images waiting tasks need, all of them each time. It returns at
	// once.
	Want(images []string)
	// Images says how it stands with those. The map is not changed any more.
	Images() map[string]scheduler.Image
}

// Limited is a Backend of this machine that may be unable to give its GPUs to tasks. When
// that changes it calls the sink of Watch, with no changes if it has none.
type Limited interface {
	// NoGPUs says why, for people; "" = it gives them.
	NoGPUs() string
}

// Absentee is a Backend that a machine may do without.
type Absentee interface {
	// Absent says that it was looked for and is not there. It is not waited for; when it
	// comes it calls the sink of Watch.
	Absent() bool
}

// Roomy is a Backend whose room others bring, such as workers. When it changes it calls
// the sink of Watch, with no changes if it has none.
type Roomy interface {
	// Room is as it is now. What it holds is not changed any more. Most is above 0
	// unless the Backend is Down.
	Room() scheduler.Room
}
