package queue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Whoever looks after a database (verify, repair, backup, restore, compact) holds
// its lock, so that nobody owns the queue meanwhile; and its lease, if they are to put
// another database in use, so that nobody on another host does. It is no opening of
// the queue: no fencing number is spent.

// newQueue returns a queue that is not open yet.
func newQueue(opts Options) *Queue {
	return &Queue{opts: opts.withDefaults(), changed: make(chan struct{}, 1), fate: fate{damaged: make(chan struct{})}}
}

// hold opens the database in use and begins no work. It refuses one that is damaged.
func hold(ctx context.Context, opts Options) (*Queue, error) {
	q := newQueue(opts)
	if err := q.approach(ctx); err != nil {
		return nil, err
	}
	if _, err := currentPath(opts.Dir); err != nil {
		return nil, err
	}
	q.careful = true
	if err := q.openDatabase(ctx); err != nil {
		q.lease.release()
		return nil, err
	}
	return q, nil
}

// letGo ends what hold or holdFile began; closing lets go of the file. The name goes
// first: without the lock it may be another's that we remove.
func (q *Queue) letGo(closing func() error) error {
	q.lease.release()
	return closing()
}

// holdFile locks the database in use without opening it, whatever is in it.
func holdFile(ctx context.Context, opts Options) (*Queue, error) {
	q := newQueue(opts)
	if err := q.approach(ctx); err != nil {
		return nil, err
	}
	if !opts.ReadOnly {
		if err := mine(opts.Dir); err != nil {
			return nil, err
		}
	}
	for {
		path, err := currentPath(opts.Dir)
		if err != nil {
			return nil, err
		}
		q.path = path
		if err := q.lockFile(ctx); err != nil {
			return nil, q.openFailed(err)
		}
		if err := q.acquire(ctx); err != nil {
			err = errors.Join(err, q.file.Close())
			switch {
			case errors.Is(err, errMoved):
				continue
			case errors.Is(err, errCopy): // that one may still write into the file
				err = q.locked()
			}
			return nil, q.openFailed(err)
		}
		again, err := currentPath(opts.Dir)
		if err == nil && again == path && isNamed(q.file, path) {
			return q, nil
		}
		if err := errors.Join(err, q.letGo(q.file.Close)); err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		q.lease = nil
	}
}

func (q *Queue) lockFile(ctx context.Context) (err error) {
	if q.file, err = os.OpenFile(q.path, os.O_RDONLY, 0); err != nil {
		return err
	}
	if err := q.lock(ctx, q.file); err != nil {
		return errors.Join(err, q.file.Close())
	}
	return nil
}

// currentPath returns the database in use. The error has CodeNotFound when there is
// none.
func currentPath(dir string) (string, error) {
	name, err := readCurrent(dir)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", noQueue(dir)
	}
	return path, nil
}

func noQueue(dir string) error {
	return task.Errorf(task.CodeNotFound, "there is no queue in %s", dir)
}

// openAt opens a database by itself, for reading, wherever it is.
func openAt(ctx context.Context, path string, opts Options) (*Queue, error) {
	opts.Dir, opts.ReadOnly = filepath.Dir(path), true
	q := newQueue(opts)
	q.path, q.apart = path, true
	return q, q.openBolt(ctx)
}

// generations returns the databases in a folder, whether in use or not.
func generations(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if generationOf(e.Name()) > 0 {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// workshopPrefix begins the names of the folders in which a database is made before
// it is put in use. What a crash has left of them is removed by the next that makes
// one, under the lock of the database in use.
const workshopPrefix = ".new-"

// workshop makes such a folder within the queue directory, so that what is made
// there can be moved into its place in one step.
func workshop(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), workshopPrefix) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return "", fmt.Errorf("remove what an earlier attempt has left: %w", err)
			}
		}
	}
	return os.MkdirTemp(dir, workshopPrefix)
}

// giveName gives a file another name, beside the one that it has, which is left to
// the workshop's end. A database that got the name meanwhile, of one who took over
// while we were frozen, is not replaced, as a rename would.
func giveName(path, name string) error {
	err := os.Link(path, name)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP):
		return os.Rename(path, name) // FAT has no links, and locks that are true
	case sameFile(path, name):
		return nil // a file server did what it was told twice
	default:
		return err
	}
}

// isNamed says whether the file is the one of that name, and not one that was removed.
func isNamed(f *os.File, name string) bool {
	x, errX := f.Stat()
	y, errY := os.Stat(name)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// nameCurrent writes CURRENT where the one who made the queue died before: the first
// database needs no CURRENT, but only as long as it is the only one.
func (q *Queue) nameCurrent(path string) error {
	_, err := os.Lstat(filepath.Join(q.opts.Dir, currentFile))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if fileSize(path) == 0 {
		return nil // nobody has made one
	}
	return q.lease.putInUse(filepath.Base(path))
}

// install puts a database that is whole and on disk in use: under a name of its own
// first, then by CURRENT. A crash before the last step leaves the one before in use.
func (q *Queue) install(path, what string) (name string, err error) {
	dir := q.opts.Dir
	generation, err := unusedGeneration(dir)
	if err != nil {
		return "", err
	}
	name = generationName(generation)
	if err := q.nameCurrent(q.path); err != nil {
		return "", err
	}
	crashIn(what, "before-rename")
	if err := giveName(path, filepath.Join(dir, name)); err != nil {
		return "", err
	}
	if err := syncDir(dir); err != nil {
		return "", err
	}
	crashIn(what, "before-current")
	if err := q.lease.putInUse(name); err != nil {
		if errors.Is(err, ErrDeposed) { // then it is certain that it is not in use
			err = errors.Join(err, removeIfThere(filepath.Join(dir, name)))
		}
		return "", err
	}
	crashIn(what, "after-current")
	return name, nil
}
