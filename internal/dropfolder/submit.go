package dropfolder

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// submit hands a batch to the queue. Before that it is on disk that its files were
// taken: else a file that is in pending/ again after a power failure would be taken
// a second time, under another ticket.
func (f *Folder) submit(ctx context.Context, now time.Time, b *batch) {
	if len(b.subs) == 0 {
		return
	}
	failpoint.Here("dropfolder/before-submit")
	answers, err := f.store(ctx, b)
	if ctx.Err() != nil && err != nil {
		f.taken.unsettled = append(f.taken.unsettled, b.entries...)
		return
	}
	failpoint.Here("dropfolder/after-submit")
	var later []*entry
	trouble := err
	for i, e := range b.entries {
		if err == nil && !noRoom(answers[i].Err) {
			f.answered(e, now, b.subs[i].ID, answers[i])
			continue
		}
		later = append(later, e)
		if err == nil {
			trouble = answers[i].Err
		}
	}
	f.refusing = f.trouble.note("submit", "the queue takes no files of the drop folder now; they are tried again", trouble)
	if !f.refusing {
		f.backoff = 0
		return
	}
	f.hold(now)
	for _, e := range later {
		e.look.retryAt = f.closedUntil
		f.unsettle(e, now)
	}
}

// noRoom says whether an answer is not about the task.
func noRoom(err error) bool {
	code := task.CodeOf(err)
	return err != nil && (code == task.CodeExhausted || code == task.CodeUnavailable)
}

func (f *Folder) store(ctx context.Context, b *batch) ([]Answer, error) {
	if f.syncMoves(); f.dirty {
		return nil, errNotSafe
	}
	answers, err := f.opts.Tasks.Submit(ctx, b.subs)
	if err == nil && len(answers) != len(b.subs) {
		err = fmt.Errorf("%d answers to %d submissions", len(answers), len(b.subs))
	}
	return answers, err
}

// errNotSafe is why nothing is submitted while the directories cannot be synced.
var errNotSafe = errors.New("the names of taken files are not on disk yet")

// answered goes on with an entry for which the queue has an answer.
func (f *Folder) answered(e *entry, now time.Time, id string, a Answer) {
	switch code := task.CodeOf(a.Err); {
	case a.Err == nil:
		f.taken.follow(e, id)
		if a.Existing {
			f.taken.end(e, now) // it may have ended before the log was followed
		}
	case code == task.CodeInternal:
		f.opts.Logger.Warn("a file of the drop folder cannot be submitted; it is tried again", "file", e.file, "error", a.Err)
		e.look.retryAt = now.Add(retryLast)
		f.unsettle(e, now)
	case code == task.CodeConflict && f.isOrigin(e, id):
		f.taken.follow(e, id)
		f.taken.end(e, now)
	default:
		f.reject(e, now, a.Err.Error())
	}
}

// isOrigin says whether the task with that id came from this very file: it was
// submitted before a crash, and the configuration makes something else of it now.
func (f *Folder) isOrigin(e *entry, id string) bool {
	o, err := f.opts.Tasks.Outcome(id)
	return err == nil && o.Ticket == e.ticket
}
