package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Repaired is what a repair, or a restoration, has come to.
type Repaired struct {
	Holdings
	// Findings are what was wrong, and with it what is lost.
	Findings []Finding
	Held     int    // unfinished tasks that were held by it
	Path     string // of the database in use now
	Former   string // of the one before, which is kept; "" = there was none
	NewID    bool   // it is another queue now than the one it was made of
}

// Repair makes a new database of what the one in use still holds, and puts it in use.
// The damaged one is kept as it is, beside it. What is certain goes on as it was; a
// task that may have run, and of which nobody can tell, is held; what is lost is
// named. All indexes are made anew.
//
// A crash at any moment leaves the database in use that was, or the new one.
func Repair(ctx context.Context, opts Options, progress Progress) (Repaired, error) {
	opts.ReadOnly = false
	q, err := holdFile(ctx, opts)
	if err != nil {
		return Repaired{}, err
	}
	done, err := q.repair(ctx, progress)
	return done, errors.Join(err, q.letGo(q.file.Close))
}

func (q *Queue) repair(ctx context.Context, progress Progress) (Repaired, error) {
	out := Repaired{Former: q.path}
	err := q.withSalvaged(ctx, q.file, progress, func(s *salvaged) error {
		r := newRescuer(s, task.At(q.opts.Now()), "queue repair")
		if err := r.look(); err != nil {
			return q.nothingLeft(err)
		}
		return q.replace(ctx, r, careRepair, progress, &out)
	})
	return out, err
}

func (q *Queue) nothingLeft(err error) error {
	if !errors.Is(err, ErrNothingLeft) {
		return err
	}
	return task.Errorf(task.CodeInternal, "%s: %w; restore a backup, or move %s out of the way to begin anew", q.path, err, q.opts.Dir)
}

// replace makes a new database and puts it in use.
func (q *Queue) replace(ctx context.Context, r *rescuer, what string, progress Progress, out *Repaired) error {
	shop, err := workshop(q.opts.Dir)
	if err != nil {
		return fmt.Errorf("make room for the new database: %w", err)
	}
	defer func() { _ = os.RemoveAll(shop) }() // the next one removes what is left
	crashIn(what, "begun")
	path, err := r.rebuild(ctx, shop, q.opts.Logger, progress)
	if err != nil {
		return err
	}
	crashIn(what, "written")
	made, err := holdingsOf(ctx, path)
	if err != nil {
		return err
	}
	if err := markRebuilt(q.opts.Dir, made.QueueID, "queue "+what, q.opts.Now()); err != nil {
		return err
	}
	name, err := q.install(path, what)
	if err != nil {
		return q.commitFailed(err)
	}
	out.Holdings, out.Held = made, r.held
	out.Findings, out.NewID = byKind(r.findings), made.QueueID != r.id
	out.Path = filepath.Join(q.opts.Dir, name)
	return nil
}

// holdingsOf counts what a database holds that was just made.
func holdingsOf(ctx context.Context, path string) (Holdings, error) {
	q, err := Open(ctx, Options{Dir: filepath.Dir(path), ReadOnly: true})
	if err != nil {
		return Holdings{}, err
	}
	h, err := q.holdings()
	return h, errors.Join(err, q.Close())
}
