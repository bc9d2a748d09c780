package api

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Queue is what the server needs of the store of tasks.
type Queue interface {
	// Submit stores new tasks in one commit and returns once they are on disk,
	// with one answer per spec, in order. The error is for the whole: nothing was
	// stored. A spec that is invalid is answered by itself. One without an id is
	// given one, which the answer's Task has.
	Submit(ctx context.Context, specs []*task.Spec) ([]Accepted, error)
	Tasks
}

// Tasks is what the server reads of the queue.
type Tasks interface {
	// Lookup returns the task with that id, or an Error with CodeNotFound.
	Lookup(id string) (task.Task, error)
	// Removed returns what retention has left of the task with that id, or an Error
	// with CodeNotFound.
	Removed(id string) (task.Final, error)
	// Result returns what the task gave back; nil when there is nothing.
	Result(seq task.Seq) (task.Result, error)
	// List returns tasks, newest first. When there may be more, next is what
	// Filter.Before has to be for them; 0 = that was all. A page can be shorter
	// than the limit and still have a next.
	List(f task.Filter) (tasks []task.Task, next task.Seq, err error)
	// Unreadable names the tasks that were met and cannot be read, which List leaves out.
	Unreadable() []string
	// Counts returns how many tasks there are. It is called for every metric and
	// must not read the whole queue.
	Counts() task.Counts
}

// Accepted is the answer to one submission.
type Accepted struct {
	Task     task.Task
	Existing bool        // the same task had been submitted before
	Final    *task.Final // it had ended, and only its outcome is still known; Task is empty then
	Err      error       // why it was refused; nil = accepted
}

// Log is what the server needs of the event log.
type Log interface {
	// Records returns at most limit records with an Index of at least from, in order.
	// One that is damaged has nothing but its Index.
	// When retention has removed the record at from, the first one is a later one.
	Records(from uint64, limit int) ([]task.Record, error)
	// LastIndex returns the index of the newest record; 0 when there never was one.
	LastIndex() uint64
	// WaitRecords returns when there is a record with an Index above after, or
	// with the context's error.
	WaitRecords(ctx context.Context, after uint64) error
}

// Mover is what the server needs of the engine: what changes a task on behalf
// of a person. An id that is unknown is answered with CodeNotFound.
type Mover interface {
	Cancel(ctx context.Context, id, by, reason string) (task.Task, error)
	Retry(ctx context.Context, id, by string) (task.Task, error)
	// Explain says in one sentence why the task is where it is.
	Explain(ctx context.Context, id string) (string, task.Task, error)
	// Waits says of the first of each kind that waits for its turn why it does, of many
	// kinds but not of any number. It is called for each page of a listing that has such.
	Waits() (map[task.Seq]string, error)
}

// Outputs finds what tasks have printed.
type Outputs interface {
	// Path names the file that the output of an attempt goes to; "" when there is none.
	Path(t task.Task, attempt int) string
	// Open opens the output of an attempt that has begun. It may not have printed
	// anything yet. An attempt that was taken back before it ran, or whose output
	// was removed, is an Error with CodeNotFound.
	Open(t task.Task, attempt int) (Output, error)
}

// Output is the output of one attempt, which may still be growing. It is used by
// one goroutine.
type Output interface {
	// Read reads from the offset on and returns the offset to go on from, which
	// lies further than n bytes where a piece was dropped and a notice stands in
	// for it. io.EOF says that there is no more for now.
	Read(p []byte, offset int64) (n int, next int64, err error)
	// Stream names the stream of what is at an offset, and says up to where it goes; "output"
	// where streams were not told apart. It may go further once more was read.
	Stream(offset int64) (name string, until int64, err error)
	// TailOffset returns where the last lines begin.
	TailOffset(lines int) (int64, error)
	// Wait returns when there may be something behind the offset, or with the
	// context's error. It may return early.
	Wait(ctx context.Context, offset int64) error
	io.Closer
}

// Metrics is what the server needs of the numbers, and what it tells them.
type Metrics interface {
	// Values returns all that have no label, by name. The caller owns the map.
	Values() map[string]float64
	// Handler answers a scrape.
	http.Handler
	// RPC is told of a gRPC call that has ended: "package.Service/Method", and the
	// name of its code.
	RPC(method, code string)
	// HTTP is told of a request that was answered: the path as the documentation
	// writes it, "" for none of ours, and the status.
	HTTP(path string, code int)
}

// What a process is to the queue that it owns.
const (
	RoleDaemon = "daemon"
	RoleDrain  = "drain" // it starts what is ready, follows it for a while, and leaves
)

// Info is what the daemon tells about itself.
type Info struct {
	Role      string
	Healthy   bool              // tasks can be accepted
	Services  map[string]string // each watched part, and its status
	Version   string
	Workspace string
	PID       int
	StartedAt time.Time
	QueueID   string
	QueueDir  string
	LogFile   string
	// ConfigFile is the configuration file that was read, and ConfigChanged when that had
	// been changed last; zero = it was not there.
	ConfigFile    string
	ConfigChanged time.Time
	Classes       []ClassInfo
}

// ClassInfo is what the daemon tells about a class of tasks.
type ClassInfo struct {
	Name     string
	Parallel int // 0 = bounded only by the machine
	Paused   *task.Pause
}
