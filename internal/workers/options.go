package workers

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Options are what a Backend needs. Those marked required have no default.
type Options struct {
	Dir     string       // required; the folder of all workers
	QueueID string       // required; written there, for workers, who cannot open the queue
	Logger  *slog.Logger // required
	// Confirm says whether the queue is still ours; nil = it is.
	Confirm func() error
	// Remains opens what the process supervisor of a worker has written, below dir.
	// Required.
	Remains func(dir string) (Remains, error)
	// Jobs says which of these Slurm jobs may still work, and may take long to answer. Nil =
	// nobody knows, and all may.
	Jobs func(ctx context.Context, jobs []string) (map[string]bool, error)
	// Door is where workers of other hosts may connect; nil, or ok = false: nowhere.
	Door func() (d Door, ok bool)
	// Answer answers a call that came through files; required.
	Answer func(ctx context.Context, owner lease.Owner, c lease.Call) lease.Reply
	// None is what to do where there is no worker, for people.
	None func() string

	// Unheard is after how long without a call a worker counts as not heard; 0 =
	// DefaultUnheard.
	Unheard time.Duration
	// Stranded is how long an attempt waits here while no worker could take it; 0 =
	// DefaultStranded.
	Stranded time.Duration
	Now      func() time.Time
}

// The defaults of Options.
const (
	DefaultUnheard  = 15 * time.Second
	DefaultStranded = 30 * time.Second
)

// Remains is what the process supervisor of a worker has written down.
type Remains interface {
	// Look reads it anew. An error says that some of it cannot be read now.
	Look() error
	// Whole says whether the last Look showed all that was ever written.
	Whole() bool
	// Of tells what is known of an attempt: all events so far, and whether it has begun. An
	// error says that it has ended, and that how is to be read only later.
	Of(ref task.Ref) (changes []task.Change, begun bool, err error)
	// Lives says whether the supervisor may still write, as far as the last Look shows who
	// it is. Before a first Look it may.
	Lives() bool
}

// Door is what a connection takes, beside the worker's own secret.
type Door struct {
	Addr string `json:"addr"` // HOST:PORT
	Cert string `json:"cert"` // PEM
}

func (o *Options) fill() error {
	switch {
	case !filepath.IsAbs(o.Dir):
		return errors.New("workers: Options.Dir has to be an absolute path")
	case o.QueueID == "", o.Logger == nil, o.Remains == nil, o.Answer == nil:
		return errors.New("workers: QueueID, Logger, Remains and Answer are required")
	}
	if o.Confirm == nil {
		o.Confirm = func() error { return nil }
	}
	if o.Door == nil {
		o.Door = func() (Door, bool) { return Door{}, false }
	}
	if o.None == nil {
		o.None = func() string { return "" }
	}
	if o.Unheard <= 0 {
		o.Unheard = DefaultUnheard
	}
	if o.Stranded <= 0 {
		o.Stranded = DefaultStranded
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}
