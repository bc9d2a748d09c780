package queue

import (
	"log/slog"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/mounts"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Options say which queue to open and how.
type Options struct {
	// Dir is the queue directory. It is made, for its owner alone, if it is not
	// there.
	Dir string
	// Logger gets what an operator should know. Defaults to discarding it.
	Logger *slog.Logger
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
	// LockTimeout is how long to wait for another process to let go of the queue.
	// Defaults to DefaultLockTimeout.
	LockTimeout time.Duration
	// ReadOnly opens for reading alone: nothing on disk changes, not even the
	// fencing number. Several readers can have the queue open, but none while it
	// is open for writing.
	ReadOnly bool
	// Glance opens for a look at a few records: of the file only the pages that lead to
	// others are looked at beforehand, as they are of one that is large. What is damaged
	// below them shows when it is read.
	Glance bool
	// Role is what the queue is opened for, for those who want it meanwhile. Defaults
	// to RoleDaemon.
	Role Role
	// TakeOver goes on where an owner on another host cannot be shown to be dead, if
	// it gives no sign of life for a quarter of a minute: with a copy of the database,
	// and without what it may still be doing.
	TakeOver bool
	// Program is our own program, or another whose main calls tryopen.Main: where the
	// file system may hang it tries the opening first. "" = that is not tried.
	Program string
	// Beat is how often the owner looks whether it still is one, and shows others that
	// it is alive. Defaults to two seconds; more is for tests whose clock runs fast.
	Beat time.Duration
	// Socket is where this process can be reached, for those who read owner.json.
	Socket string
	// Retention bounds what is kept of the past.
	Retention Retention
	// MaxWaiting bounds the tasks that are Pending; Submit answers those beyond it
	// with ErrFull. Defaults to DefaultMaxWaiting; negative = no bound.
	MaxWaiting int
	// OnWatch, when it is not nil, is told when the opening begins to look for signs of
	// life of a former owner, and again with every Beat while it waits: for how long it
	// goes on. o is nil where that one cannot be named.
	OnWatch func(o *Owner, left time.Duration)
	// OnCommit, when it is not nil, is told of each commit once it is on disk: how
	// long it took, and what was added to the event log, which may be nothing. It
	// runs in the writer, so everybody waits for it, and must not call the queue.
	// The records are shared: it may neither change nor keep them.
	OnCommit func(took time.Duration, added []task.Record)

	// wholeBytes is up to which size all pages are looked at.
	wholeBytes int64
	// terms, clock and mountOf are those of the lease, for tests that want others.
	terms   terms
	clock   func() time.Time
	mountOf func(dir string) (mounts.Mount, error)
}

// DefaultLockTimeout is long enough for a command that holds the queue for one
// call to finish.
const DefaultLockTimeout = 2 * time.Second

// DefaultMaxWaiting is far above what people submit on purpose, and keeps a
// program that has run wild from filling the disk.
const DefaultMaxWaiting = 2_000_000

// Retention bounds what is kept of the past. Zero fields take their defaults;
// a negative one means no bound.
type Retention struct {
	Age          time.Duration // of ended tasks. Defaults to 7 days
	Count        int           // of ended tasks. Defaults to 100,000
	TombstoneAge time.Duration // of what is left of a removed task. Defaults to 90 days
	EventAge     time.Duration // of the event log. Defaults to 7 days
	EventMax     int           // records in the event log, whoever still wants them. Defaults to 2,000,000
}

// DefaultRetention is what zero fields of a Retention mean.
var DefaultRetention = Retention{
	Age: 7 * day, Count: 100_000, TombstoneAge: 90 * day, EventAge: 7 * day, EventMax: 2_000_000,
}

const day = 24 * time.Hour

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.LockTimeout <= 0 {
		o.LockTimeout = DefaultLockTimeout
	}
	o.Role = orDefault(o.Role, RoleDaemon)
	o.terms = orDefault(o.terms, defaultTerms)
	o.terms.beat = orDefault(o.Beat, o.terms.beat)
	if o.clock == nil {
		o.clock = time.Now
	}
	if o.mountOf == nil {
		o.mountOf = mountOf
	}
	if o.Glance {
		o.wholeBytes = 1
	}
	o.wholeBytes = orDefault(o.wholeBytes, maxWhole)
	o.MaxWaiting = orDefault(o.MaxWaiting, DefaultMaxWaiting)
	r, d := &o.Retention, DefaultRetention
	r.Age = orDefault(r.Age, d.Age)
	r.Count = orDefault(r.Count, d.Count)
	r.TombstoneAge = orDefault(r.TombstoneAge, d.TombstoneAge)
	r.EventAge = orDefault(r.EventAge, d.EventAge)
	r.EventMax = orDefault(r.EventMax, d.EventMax)
	return o
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
