package backendtest

import (
	"context"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Backend is what is tested. The engine declares the same methods and says what
// each of them promises.
type Backend interface {
	Name() string
	Down() string
	Launch(ctx context.Context, tasks []task.Task) error
	Stop(ctx context.Context, t task.Task) error
	Watch(ctx context.Context, active []task.Task, sink func([]task.Change)) error
	Forget(ctx context.Context, refs []task.Ref) error
}

// Place is where a backend keeps what outlives the daemon.
type Place struct {
	// Open makes a backend over the place, as a daemon does that just started.
	// No two are watched at the same time.
	Open func(t *testing.T) Backend
	// Output returns what an attempt has printed.
	Output func(t *testing.T, ref task.Ref) string
	// Spec completes a spec for this backend, with an image for example. May be nil.
	Spec func(s *task.Spec)
	// Crash kills what outlives the daemon for the backend's sake, such as a process
	// that waits for tasks, as kill -9 would. Nil = there is nothing of the kind.
	Crash func(t *testing.T)
	// Ended says whether the program of an attempt has ended, where that can be seen
	// without the backend. Nil = by what the program writes, and its process.
	Ended func(t *testing.T, ref task.Ref) bool
	// Patience is how long what has to come may take, where that is longer than usual.
	Patience time.Duration
	// Can says what the backend is able to do.
	Can Abilities
}

// Abilities are what not every backend has. The suite leaves out what needs the
// others.
type Abilities struct {
	Payload     bool // DSPY_PAYLOAD_FILE
	ResultFile  bool // DSPY_RESULT_FILE
	Marker      bool // a marked last line of output
	TimeLimit   bool // it enforces Spec.Timeout itself
	HostProcess bool // programs are processes of this host, which the test can look at
	ExitCodes   bool // it tells how a program ended
	Signals     bool // and by which signal
	OneStream   bool // stdout and stderr are in the order in which they were written
	PreExec     bool // it says that a command or a directory does not exist
}

// Factory makes an empty place. It registers its own cleanup.
type Factory func(t *testing.T) Place
