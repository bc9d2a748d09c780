package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	berrors "go.etcd.io/bbolt/errors"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// RestoreOptions say what may happen in a restoration.
type RestoreOptions struct {
	// Replace allows it where there is a queue already, which is kept beside it.
	Replace bool
	// Damaged allows it from a file that is damaged: what that still holds is
	// restored, and what it does not is named.
	Damaged bool
}

// ErrNotEmpty is what errors.Is finds when there is a queue where one was to be
// restored.
var ErrNotEmpty = errors.New("there is a queue already")

// ErrDamagedBackup is what errors.Is finds when the file to restore is damaged.
var ErrDamagedBackup = errors.New("the file is damaged")

// Restore makes a queue of a backup, in a folder that has none. It is another queue
// than the one that was backed up, with another id: that one may still run, or run
// again, so that what was done on its behalf is not ours. Unfinished tasks are held
// until somebody lets them go, since they may have run since; ended ones are as they
// were.
func Restore(ctx context.Context, opts Options, path string, how RestoreOptions, progress Progress) (Repaired, error) {
	opts.ReadOnly = false
	// Its lock would be ours, and keep us out.
	if current, err := currentPath(opts.Dir); err == nil && sameFile(path, current) {
		return Repaired{}, task.Errorf(task.CodeConflict, "%s is the database in use itself, and no backup of it; nothing was done. If it is damaged: dspy-agent queue repair", path)
	}
	src, err := openBackup(ctx, opts, path)
	if err != nil {
		return Repaired{}, err
	}
	defer func() { _ = src.file.Close() }()              // it was only read
	if err := newQueue(opts).approach(ctx); err != nil { // before anything here could hang
		return Repaired{}, err
	}
	if err := makeFolder(opts.Dir); err != nil {
		return Repaired{}, err
	}
	q, empty, made, err := holdPlace(ctx, opts, how.Replace)
	if err != nil {
		return Repaired{}, err
	}
	out, err := q.restore(ctx, src, how, empty, progress)
	if empty && (err == nil || made) {
		err = errors.Join(err, q.removeEmpty())
	}
	return out, errors.Join(err, q.letGo(q.file.Close))
}

// removeEmpty removes the place that was taken, which is locked.
func (q *Queue) removeEmpty() error {
	if fileSize(q.path) > 0 || !isNamed(q.file, q.path) {
		return nil // somebody has put a database there
	}
	return removeIfThere(q.path)
}

func openBackup(ctx context.Context, opts Options, path string) (*Queue, error) {
	opts.Dir, opts.ReadOnly = filepath.Dir(path), true
	src := newQueue(opts)
	src.path = path
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, task.Errorf(task.CodeInvalid, "%s is not a file", path)
	}
	if err := src.lockFile(ctx); err != nil {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, task.Errorf(task.CodeNotFound, "there is no file %s", path)
		case errors.Is(err, berrors.ErrTimeout):
			return nil, task.Errorf(task.CodeConflict, "%s cannot be restored: %s has it open; if it is the database of a queue that is in use, restore what dspy-agent queue backup makes of it", path, holderOf(path))
		}
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return src, nil
}

// holderOf names who has a file locked.
func holderOf(path string) string {
	if pid := cmp.Or(host.Holder(path), host.Sharer(path)); pid != 0 {
		return fmt.Sprintf("pid %d", pid)
	}
	return "another process"
}

// holdPlace locks the database in use, or, where there is none, an empty file in its
// place, so that nobody makes a queue there meanwhile. made says that nothing but such a
// file was ever there. What is in the place is known only under the lock: somebody may
// have made a queue there while we waited for it.
func holdPlace(ctx context.Context, opts Options, replace bool) (q *Queue, empty, made bool, err error) {
	_, err = currentPath(opts.Dir)
	gone, lost := errors.AsType[*goneError](err)
	switch {
	case task.CodeOf(err) == task.CodeNotFound:
		err = makePlace(filepath.Join(opts.Dir, firstGeneration))
	case lost && replace:
		// Under its own name: until there is a new one, whoever opens the queue finds that
		// its database is empty and was not, and leaves it alone.
		err = makePlace(gone.path)
	}
	if err != nil {
		return nil, false, false, err
	}
	if q, err = holdFile(ctx, opts); err != nil {
		return nil, false, false, err
	}
	empty = fileSize(q.path) == 0
	if !empty && !replace {
		err := task.Errorf(task.CodeConflict, "%w in %s; restore into another workspace, or with --force in its place (it is kept, beside the restored one)", ErrNotEmpty, opts.Dir)
		return nil, false, false, errors.Join(err, q.letGo(q.file.Close))
	}
	_, err = os.Lstat(filepath.Join(opts.Dir, currentFile))
	return q, empty, lost || errors.Is(err, fs.ErrNotExist), nil
}

// makePlace makes an empty file, or leaves one that is there.
func makePlace(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return task.Errorf(task.CodeUnavailable, "make a queue in %s: %w", filepath.Dir(path), err)
	}
	return nil
}

func (q *Queue) restore(ctx context.Context, src *Queue, how RestoreOptions, fresh bool, progress Progress) (Repaired, error) {
	out := Repaired{}
	if !fresh {
		out.Former = q.path
	}
	err := src.withSalvaged(ctx, src.file, progress, func(s *salvaged) error {
		r := newRescuer(s, task.At(q.opts.Now()), "queue restore")
		if err := r.look(); err != nil {
			if errors.Is(err, ErrNothingLeft) {
				return task.Errorf(task.CodeInvalid, "%s: %w; is it a backup of a queue?", src.path, err)
			}
			return err
		}
		if len(r.findings) > 0 && !how.Damaged {
			out.Findings = byKind(r.findings)
			return task.Errorf(task.CodeConflict, "%s: %w; nothing was done (--damaged restores what is left of it)", src.path, ErrDamagedBackup)
		}
		r.id = "" // of another queue
		r.holdAll = "restored from a backup: it may have run since"
		return q.replace(ctx, r, careRestore, progress, &out)
	})
	return out, err
}
