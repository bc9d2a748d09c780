package process

import (
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Options are what a Backend needs. Those marked required have no default.
type Options struct {
	QueueID    string       // required; random, in every name that leaves the process
	TasksDir   string       // required; see Layout
	SpoolDir   string       // required; journals are kept below it, by host and boot
	RuntimeDir string       // required; where the supervisor's socket is; ours alone
	Logger     *slog.Logger // required

	// Pool says in which line a task waits in the supervisor, and how many of
	// that line run at a time; 0 = as many as come. Nil = no lines.
	Pool func(task.Task) (pool string, limit int)
	// BaseEnv is the environment of tasks that brought none along, "K=V".
	BaseEnv []string
	// Env gives variables beside those of the spec, such as the GPUs that the
	// task may see. They win over the spec's. Nil = none.
	Env func(task.Task) []string

	// Known says whether an attempt is one of a task that the queue has, or may have
	// some day. The files of others are removed. Nil = it has all.
	Known func(task.Ref) (bool, error)

	// LeaseUntil says up to when the queue is known to be ours, in nanoseconds on the boot
	// clock; 0 = for ever. Nothing is started later. Nil = for ever.
	LeaseUntil func() int64
	// Fence is that of the queue's present opening. It tells supervisors which of two
	// owners came later.
	Fence uint64
	// LookEvery is how often, at most, it is looked what other hosts write into the spool;
	// 0 = DefaultLookEvery. Nobody looks where there is nothing to see.
	LookEvery time.Duration

	Nice        int           // added to the nice level of tasks
	LogCap      int64         // bytes of output that an attempt keeps on disk; 0 = DefaultLogCap
	ResultLimit int64         // bytes of a result; 0 = DefaultResultLimit
	PingEvery   time.Duration // how often an idle connection is tried; 0 = DefaultPingEvery
	Silence     time.Duration // without a word, until the supervisor counts as hung; 0 = DefaultSilence
	Idle        time.Duration // see SupervisorOptions
	Exe         string        // binary that becomes the supervisor; "" = this one
	NoCgroups   bool          // a supervisor that is started does without
	Now         func() time.Time
}

// The defaults of Options.
const (
	DefaultLogCap      = 1 << 30
	DefaultResultLimit = 4 << 20
	// DefaultPingEvery is how often an idle connection is tried.
	DefaultPingEvery = 3 * time.Second
	// DefaultSilence is after how long without a word the supervisor is said not
	// to answer. It is well above what a busy machine or a sync of a disk takes.
	DefaultSilence = 10 * time.Second
	// DefaultLookEvery is how often at most it is looked what other hosts write into the
	// spool, and lookLess how much less often where nothing moves.
	DefaultLookEvery = 2 * time.Second
	lookLess         = 15
)

// fill checks the options and sets the defaults.
func (o *Options) fill() error {
	switch {
	case o.QueueID == "":
		return errors.New("process backend: Options.QueueID is empty")
	case !filepath.IsAbs(o.TasksDir), !filepath.IsAbs(o.SpoolDir), !filepath.IsAbs(o.RuntimeDir):
		return errors.New("process backend: TasksDir, SpoolDir and RuntimeDir have to be absolute paths")
	case o.Logger == nil:
		return errors.New("process backend: Options.Logger is nil")
	}
	if o.LogCap <= 0 {
		o.LogCap = DefaultLogCap
	}
	if o.ResultLimit <= 0 {
		o.ResultLimit = DefaultResultLimit
	}
	if o.Exe == "" {
		o.Exe = "/proc/self/exe"
	}
	if o.Idle <= 0 {
		o.Idle = DefaultIdle
	}
	if o.PingEvery <= 0 {
		o.PingEvery = DefaultPingEvery
	}
	if o.Silence <= 0 {
		o.Silence = DefaultSilence
	}
	if o.LookEvery <= 0 {
		o.LookEvery = DefaultLookEvery
	}
	if o.LeaseUntil == nil {
		o.LeaseUntil = func() int64 { return 0 }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}
