package container

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Options are what a Backend needs. Those marked required have no default.
type Options struct {
	QueueID  string       // required; random, in the name and the labels of every container
	TasksDir string       // required; see taskfiles.Layout
	Engine   Engine       // required
	Logger   *slog.Logger // required

	// Confirm says whether the queue still is ours to act for. Nothing is started
	// otherwise. Nil = it is.
	Confirm func() error
	// Needed says whether the queue has a task whose present attempt this is, and which
	// has not ended. Containers of others are removed. Nil = all are needed.
	Needed func(task.Ref) (bool, error)
	Rules  Rules
	// Init is the program dspy-init, which containers are given as their first process;
	// "" = there is none.
	Init string
	// UID and GID are the owner's: programs run as them unless the engine is rootless.
	UID, GID int

	LogCap      int64 // bytes of output that an attempt keeps on disk; 0 = DefaultLogCap
	ResultLimit int64 // bytes of a result; 0 = DefaultResultLimit
	// LeftoverGrace is how long a container that no task knows is left alone;
	// 0 = DefaultLeftoverGrace.
	LeftoverGrace time.Duration
	Now           func() time.Time
}

// Rules are what the configuration allows containers, and gives them.
type Rules struct {
	// Mounts are folders of the host below which containers may be shown paths. Links
	// are followed before it is decided.
	Mounts       []string
	Network      string   // of a task that asks for none; "" = none
	Networks     []string // that a task may ask for besides
	Capabilities []string // beside none
	ShmBytes     int64    // 0 = the engine's default
	PIDs         int64    // 0 = no limit
}

// The defaults of Options.
const (
	DefaultLogCap        = 1 << 30
	DefaultResultLimit   = 4 << 20
	DefaultLeftoverGrace = time.Minute
)

// Engine is what is asked of a container engine. docker.Client is one.
type Engine interface {
	Address
	Containers
	Streams
	Files
	Images
}

// Address is where an engine is called, and whether it sees our files.
type Address interface {
	Host() string
	Local() bool
}

// Containers are an engine's, by name or id.
type Containers interface {
	Create(ctx context.Context, s docker.Spec) (id string, err error)
	Start(ctx context.Context, name string) error
	Kill(ctx context.Context, name, signal string) error
	Remove(ctx context.Context, name string) error
	Inspect(ctx context.Context, name string) (docker.Container, error)
	List(ctx context.Context, labels ...string) ([]docker.Listed, error)
}

// Streams are what an engine tells while it happens.
type Streams interface {
	Follow(ctx context.Context, labels []string, h docker.Handler)
	Past(ctx context.Context, id string) ([]docker.Event, error)
	Logs(ctx context.Context, name string, o docker.LogOptions, take func(docker.Entry) error, idle func() error) error
}

// Files are those in a container.
type Files interface {
	Put(ctx context.Context, name string, files []docker.File) error
	Get(ctx context.Context, name, file string, limit int64) ([]byte, error)
	Changed(ctx context.Context, name, path string) (bool, error)
}

// Images are those that an engine has, or fetches.
type Images interface {
	Image(ctx context.Context, ref string) (docker.Image, error)
	Pull(ctx context.Context, ref string, progress func(docker.Progress)) error
	RemoveImage(ctx context.Context, ref string) error
}

// fill checks the options and sets the defaults.
func (o *Options) fill() error {
	switch {
	case o.QueueID == "":
		return errors.New("container backend: Options.QueueID is empty")
	case !filepath.IsAbs(o.TasksDir):
		return errors.New("container backend: TasksDir has to be an absolute path")
	case o.Engine == nil || o.Logger == nil:
		return errors.New("container backend: Options.Engine and Logger are required")
	}
	if o.LogCap <= 0 {
		o.LogCap = DefaultLogCap
	}
	if o.ResultLimit <= 0 {
		o.ResultLimit = DefaultResultLimit
	}
	if o.LeftoverGrace <= 0 {
		o.LeftoverGrace = DefaultLeftoverGrace
	}
	if o.Confirm == nil {
		o.Confirm = func() error { return nil }
	}
	if o.Needed == nil {
		o.Needed = func(task.Ref) (bool, error) { return true, nil }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}
