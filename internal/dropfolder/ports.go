package dropfolder

import (
	"context"
	"encoding/json"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/envelope"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Tasks is what the folder needs of the queue and of whoever moves its tasks.
type Tasks interface {
	// Submit stores new tasks in one commit and returns once they are on disk, with
	// one answer per submission, in order. The error is for the whole: nothing was
	// stored. The same id with the same content is the same task.
	Submit(ctx context.Context, subs []Submission) ([]Answer, error)
	// Order stores the task of a request of another host, and returns once it is on
	// disk. The same id with the same content is the same task.
	Order(ctx context.Context, order json.RawMessage) error
	// Outcome tells how far the task with that id is; also how one ended that
	// retention has removed. Of an id that is unknown the error has CodeNotFound.
	Outcome(id string) (Outcome, error)
	// Cancel asks for the end of a task. Of an id that is unknown the error has
	// CodeNotFound, of a task that has ended CodeConflict. It may be repeated.
	Cancel(ctx context.Context, id, by, reason string) error
	// ConfirmLease returns nil if the queue, and with it the folder, still is ours. It is
	// cheap when that was found out a moment ago.
	ConfirmLease() error
}

// Origin is what the folder needs to know of where the queue comes from.
type Origin interface {
	// Rebuilt says whether the queue was restored or repaired, so that tasks may be missing
	// that it had accepted, and ForgetRebuilt was not called since.
	Rebuilt() (bool, error)
	ForgetRebuilt() error
}

// Log is what the folder needs of the event log, which tells it that tasks ended.
type Log interface {
	// Records returns at most limit records with an Index of at least from, in order.
	// When retention has removed the record at from, the first one is a later one.
	Records(from uint64, limit int) ([]task.Record, error)
	// LastIndex returns the index of the newest record; 0 when there never was one.
	LastIndex() uint64
	// WaitRecords returns when there is a record with an Index above after, or with
	// an error when there will be none.
	WaitRecords(ctx context.Context, after uint64) error
}

// Submission is the task of one file.
type Submission struct {
	envelope.Submission // its ID is never empty
	// Ticket names the file. Whoever stores the task keeps it, so that a file is
	// known to be the origin of its task whatever the configuration makes of its
	// content by now.
	Ticket string
}

// Answer is what became of one submission. An error with CodeExhausted,
// CodeUnavailable or CodeInternal says that it may work later; any other sends the
// file to rejected/, with the error's text.
type Answer struct {
	Existing bool // the same task was there before
	Err      error
}

// Outcome is how far a task is. Of what was removed by retention some may be
// missing.
type Outcome struct {
	State    task.State
	Result   json.RawMessage // a JSON object; nil = none
	Error    string          // what went wrong; "" = nothing
	EndedAt  time.Time
	Duration time.Duration // of the last attempt
	SlurmJob string        // "" = it was not Slurm's
	Ticket   string        // of the submission that made the task; "" = not known, or another door's
}
