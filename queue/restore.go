package queue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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
	src, err := openBackup(ctx, opts, path)
	if err != nil {
		return Repaired{}, err
	}
	defer func() { _ = src.file.Close() }()              // it was only read
	if err := newQueue(opts).approach(ctx); err != nil { // before anything here could hang
		return Repaired{}, err
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return Repaired{}, task.Errorf(task.CodeUnavailable, "cannot make queue directory %s: %w", opts.Dir, err)
	}
	q, placeholder, err := holdPlace(ctx, opts, how.Replace)
	if err != nil {
		return Repaired{}, err
	}
	out, err := q.restore(ctx, src, how, placeholder, progress)
	if err == nil && placeholder {
		err = os.Remove(q.path)
	}
	return out, errors.Join(err, q.letGo(q.file.Close))
}

func openBackup(ctx context.Context, opts Options, path string) (*Queue, error) {
	opts.Dir, opts.ReadOnly = filepath.Dir(path), true
	src := newQueue(opts)
	src.path = path
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, task.Errorf(task.CodeInvalid, "%s is not a file", path)
	}
	if err := src.lockFile(ctx); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, task.Errorf(task.CodeNotFound, "there is no file %s", path)
		}
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return src, nil
}

// holdPlace locks the database in use, or, where there is none, an empty file in its
// place, so that nobody makes a queue there meanwhile.
func holdPlace(ctx context.Context, opts Options, replace bool) (q *Queue, placeholder bool, err error) {
	path, err := currentPath(opts.Dir)
	switch {
	case task.CodeOf(err) == task.CodeNotFound:
		f, err := os.OpenFile(filepath.Join(opts.Dir, firstGeneration), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, false, task.Errorf(task.CodeUnavailable, "make a queue in %s: %w", opts.Dir, err)
		}
		if err := f.Close(); err != nil {
			return nil, false, err
		}
		placeholder = true
	case err != nil && !replace:
		return nil, false, err
	case err == nil && !replace && fileSize(path) > 0:
		return nil, false, task.Errorf(task.CodeConflict, "%w in %s; restore into another workspace, or with --force in its place (it is kept, beside the restored one)", ErrNotEmpty, opts.Dir)
	}
	q, err = holdFile(ctx, opts)
	if err == nil && !placeholder && fileSize(q.path) == 0 {
		placeholder = true // an earlier restoration has left it
	}
	return q, placeholder, err
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
			out.Findings = r.findings
			return task.Errorf(task.CodeConflict, "%s: %w; nothing was done (--damaged restores what is left of it)", src.path, ErrDamagedBackup)
		}
		r.id = "" // of another queue
		r.holdAll = "restored from a backup: it may have run since"
		return q.replace(ctx, r, careRestore, progress, &out)
	})
	return out, err
}
