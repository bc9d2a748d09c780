package slurm

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/slurm/template"
)

// Options are what a Backend needs. Those marked required have no default.
type Options struct {
	QueueID  string       // required; random, in the name of every job
	TasksDir string       // required; see taskfiles.Layout. On a file system that the nodes see
	Slurm    Slurm        // required
	Logger   *slog.Logger // required

	// Confirm says whether the queue still is ours to act for. Nothing is submitted
	// otherwise. Nil = it is.
	Confirm func() error
	// Needed says whether the queue has a task whose present attempt this is, and which
	// has not ended. Jobs of others are cancelled. Nil = all are needed.
	Needed func(task.Ref) (bool, error)
	// Site is what the configuration says about the jobs of a class. Nil = nothing.
	Site func(class string) Site
	// Template returns the template by which a task becomes a job; nil = by none. An
	// error with CodeInvalid ends the attempt; after any other it is asked again. Nil =
	// there are none.
	Template func(*task.Spec) (*template.Template, error)

	ResultLimit int64 // bytes of a result; 0 = DefaultResultLimit
	// Doubt is how long a job is looked for after an answer that was none; 0 = twice the
	// MessageTimeout of Slurm.
	Doubt time.Duration
	// NewsPeriod is between two looks at the news; 0 = DefaultNewsPeriod. QueuePeriod is
	// the least time between two calls of squeue; 0 = DefaultQueuePeriod.
	NewsPeriod, QueuePeriod time.Duration
	Now                     func() time.Time
}

// The defaults of Options.
const (
	DefaultResultLimit = 4 << 20
	DefaultNewsPeriod  = 250 * time.Millisecond
	DefaultQueuePeriod = 2 * time.Second
)

// Slurm is what is asked of a cluster. Client is one.
type Slurm interface {
	Submit(ctx context.Context, script []byte, args ...string) (job string, err error)
	Queue(ctx context.Context, prefix string) ([]Job, error)
	Cancel(ctx context.Context, jobs ...string) error
	History(ctx context.Context, jobs ...string) ([]Job, error)
	Settings(ctx context.Context) (Settings, error)
}

// fill checks the options and sets the defaults.
func (o *Options) fill() error {
	switch {
	case o.QueueID == "":
		return errors.New("slurm backend: Options.QueueID is empty")
	case !filepath.IsAbs(o.TasksDir):
		return errors.New("slurm backend: TasksDir has to be an absolute path")
	case o.Slurm == nil || o.Logger == nil:
		return errors.New("slurm backend: Options.Slurm and Logger are required")
	}
	if o.Confirm == nil {
		o.Confirm = func() error { return nil }
	}
	if o.Needed == nil {
		o.Needed = func(task.Ref) (bool, error) { return true, nil }
	}
	if o.Site == nil {
		o.Site = func(string) Site { return Site{} }
	}
	if o.Template == nil {
		o.Template = func(*task.Spec) (*template.Template, error) { return nil, nil } //nolint:nilnil // none is an answer
	}
	if o.ResultLimit <= 0 {
		o.ResultLimit = DefaultResultLimit
	}
	if o.NewsPeriod <= 0 {
		o.NewsPeriod = DefaultNewsPeriod
	}
	if o.QueuePeriod <= 0 {
		o.QueuePeriod = DefaultQueuePeriod
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}
