package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/dropfolder"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// lookPatience is how long a look waits for the queue. Who has it for longer than a
// command takes does what a drain would do.
const lookPatience = 500 * time.Millisecond

// Worthwhile says whether a drain would find something to do, without owning the
// queue and without writing anything: from cron most runs find nothing. Where there is no
// queue there is nothing to do. The error matches queue.ErrLocked, and names who it
// is, when somebody owns the queue. waiting counts the tasks that wait for anything.
func Worthwhile(ctx context.Context, conf config.Config, limit time.Duration, classes []string) (found bool, waiting int, err error) {
	// First, since a child tries then whether the file system answers at all.
	q, err := queue.Open(ctx, queue.Options{Dir: conf.QueueDir, ReadOnly: true, Glance: true, LockTimeout: lookPatience, Program: ownProgram})
	if err != nil && task.CodeOf(err) == task.CodeNotFound {
		files, err := dropfolder.Waiting(conf.QueueDir, nil)
		return err == nil && files.Any(), 0, nil //nolint:nilerr // nobody can do anything about files in a folder that is not safe
	}
	if err != nil {
		return false, 0, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	waiting = q.Counts().Total(task.Pending)
	if found, err := ready(q, conf, limit, classes); err != nil || found {
		return found, waiting, err
	}
	files, err := dropfolder.Waiting(conf.QueueDir, goesOn(q))
	return err == nil && files.Any(), waiting, nil //nolint:nilerr // as above
}

// goesOn says of which taken files the tasks have not ended. They may be held, paused or
// blocked for months, in which nothing is to be done about the files.
func goesOn(q *queue.Queue) dropfolder.GoesOn {
	return func(id, ticket string) bool {
		t, err := q.Lookup(id)
		return err == nil && !t.State().Terminal() && ticketOf(t) == ticket
	}
}

// ready says whether the queue has something for a drain to do.
func ready(q *queue.Queue, conf config.Config, limit time.Duration, classes []string) (bool, error) {
	now := time.Now()
	w, err := q.Work(task.At(now))
	if err != nil {
		return false, fmt.Errorf("look at the queue: %w", err)
	}
	if w.Active > 0 || w.Due != 0 && (limit == 0 || w.Due.Time().Before(now.Add(limit))) {
		return true, nil
	}
	for class := range w.Ready {
		_, known := conf.Classes[class]
		if known && (len(classes) == 0 || slices.Contains(classes, class)) {
			return true, nil
		}
	}
	return false, nil
}

// OwnedBy says whether an error of Worthwhile or Drain is that somebody else owns the
// queue; who is an error that names who.
func OwnedBy(err error) (who error, ok bool) {
	if locked, ok := errors.AsType[*queue.LockedError](err); ok {
		return locked, true
	}
	return nil, false
}

// SignOfLife is how long OwnerLives has to look at one who lives.
const SignOfLife = queue.SignOfLife

// OwnerLives says whether who OwnedBy has named is seen to be alive, at the latest after
// that time. tell is told meanwhile how much of it is left; nil = nobody is told.
func OwnerLives(ctx context.Context, who error, within time.Duration, tell func(o *Owner, left time.Duration)) (bool, error) {
	locked, ok := errors.AsType[*queue.LockedError](who)
	if !ok {
		return false, nil
	}
	if tell == nil {
		tell = func(*Owner, time.Duration) {}
	}
	return locked.OwnerLives(ctx, within, tell)
}
