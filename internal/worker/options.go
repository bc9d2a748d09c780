package worker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Runner runs attempts on this host. It is an engine.Backend; internal/process is one.
type Runner interface {
	Launch(ctx context.Context, tasks []task.Task) error
	Stop(ctx context.Context, t task.Task) error
	Watch(ctx context.Context, active []task.Task, sink func([]task.Change)) error
	Forget(ctx context.Context, refs []task.Ref) error
}

// Options are what a worker needs. Those marked required have no default.
type Options struct {
	Folder lease.Folder // required; made, with its card
	Owner  lease.Owner  // required
	Runner Runner       // required
	Logger *slog.Logger // required

	CPUMilli int64    // required; what there is for tasks
	MemBytes int64    // 0 = not counted
	GPUs     []string // as CUDA_VISIBLE_DEVICES names them

	// Until is when its time is over; zero = never. Margin before that all has ended.
	Until  time.Time
	Margin time.Duration // 0 = DefaultMargin
	// InJob says that it is in a Slurm job: who ends that may send SIGTERM to all that is in
	// it, tasks included.
	InJob bool
	// Idle is how long it waits for a task before it ends; 0 = for ever.
	Idle time.Duration
	// Patience is how long it goes on without hearing of the owner; 0 = DefaultPatience.
	Patience time.Duration
	// Grace is how long what runs may go on after the worker was asked to end; 0 =
	// DefaultGrace.
	Grace time.Duration
	Now   func() time.Time
}

// The defaults of Options.
const (
	DefaultMargin   = 20 * time.Second
	DefaultPatience = 10 * time.Minute
	// DefaultGrace leaves, of the 30 s that Slurm gives (KillWait), what a task takes to
	// end after SIGTERM.
	DefaultGrace = 10 * time.Second
)

func (o *Options) fill() error {
	if o.Folder.Dir == "" || o.Owner == nil || o.Runner == nil || o.Logger == nil || o.CPUMilli <= 0 {
		return errors.New("worker: an option that is needed is missing")
	}
	if o.Margin <= 0 {
		o.Margin = DefaultMargin
	}
	if o.Patience <= 0 {
		o.Patience = DefaultPatience
	}
	if o.Grace <= 0 {
		o.Grace = DefaultGrace
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Summary is what became of a worker.
type Summary struct {
	Why       string // it ended
	Succeeded int
	Failed    int
	Returned  int // given back before they began
}
