package queue

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/mounts"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/tryopen"
)

// slowStep is how long a step of opening may take before an operator hears of it.
const slowStep = time.Second

// approach finds out what the queue directory is on. Where it is no local disk a
// process apart tries the opening first: here it could hang for good.
func (q *Queue) approach(ctx context.Context) error {
	var err error
	if q.mount, err = q.opts.mountOf(q.opts.Dir); err != nil {
		q.opts.Logger.Warn("cannot tell what the queue is on; nothing is taken for granted", "dir", q.opts.Dir, "error", err)
	}
	if q.mount.Local() || q.opts.Program == "" {
		return nil
	}
	report, err := tryopen.Run(ctx, q.opts.Program, tryopen.Plan{
		Dir: q.opts.Dir, Pointer: currentFile, Default: firstGeneration, Note: OwnerFile, Write: !q.opts.ReadOnly,
	}, tryopen.Limit)
	if hung, ok := errors.AsType[*tryopen.HungError](err); ok {
		return hangs(q.opts.Dir, q.mount, hung, parseSeat(report.Note).owner)
	}
	if _, ok := errors.AsType[*tryopen.NoLocksError](err); ok {
		return q.lockless(err)
	}
	if errors.Is(err, tryopen.ErrNoTrial) {
		q.opts.Logger.Warn("the file system could not be tried before the queue is opened", "dir", q.opts.Dir, "error", err)
		return nil
	}
	if s := report.Slowest; err == nil && s.Took > slowStep {
		q.opts.Logger.Warn("the file system of the queue is slow", "dir", q.opts.Dir, "on", q.mount.String(), "step", s.Name, "took", s.Took)
	}
	return err
}

// Answers returns an error if what a queue directory is on does not answer, so that a
// look into it would hang for good. It is for those who look into it without opening the
// queue. Where it is no local disk, the program, as in Options, looks first. What else may
// be wrong with the directory it leaves to those.
func Answers(ctx context.Context, dir, program string) error {
	on, err := mounts.Of(dir)
	if err == nil && on.Local() {
		return nil
	}
	report, err := tryopen.Run(ctx, program, tryopen.Plan{Dir: dir, Pointer: currentFile, Note: OwnerFile}, tryopen.Limit)
	if hung, ok := errors.AsType[*tryopen.HungError](err); ok {
		return hangs(dir, on, hung, parseSeat(report.Note).owner)
	}
	return ctx.Err()
}

// hangs is the error for a file system that does not answer.
func hangs(dir string, on mounts.Mount, err error, o *Owner) error {
	const advice = "try again when it answers, or set ENV_QUEUE_DIR to a folder on a local disk"
	if o == nil {
		return task.Errorf(task.CodeUnavailable, "the queue in %s cannot be opened: it is on %s, and %w; %s", dir, on, err, advice)
	}
	return task.Errorf(task.CodeUnavailable, "the queue in %s cannot be opened: it is on %s, and %w; its owner is %s; %s", dir, on, err, o, advice)
}

// lockless is the error for a file system that has no locks.
func (q *Queue) lockless(err error) error {
	return task.Errorf(task.CodeUnavailable,
		"the queue in %s cannot be opened: it is on %s: %w, and without them two daemons would spoil it; set ENV_QUEUE_DIR to a folder that has locks, such as one on a local disk, or have it mounted with them (flock)",
		q.opts.Dir, q.mount, err)
}

// noLocks says whether flock(2) failed because the file system has none.
func noLocks(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EOPNOTSUPP)
}

func mountOf(dir string) (mounts.Mount, error) { return mounts.Of(dir) }
