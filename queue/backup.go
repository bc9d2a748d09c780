package queue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Backup writes a copy of the database that is in use into a file, for a queue that
// nobody owns, and looks at all of it; see File.Keep. The daemon that owns one is asked
// for a copy instead; see CopyTo.
func Backup(ctx context.Context, opts Options, path string, progress Progress) (Copied, Kept, error) {
	opts.ReadOnly = true
	q, err := hold(ctx, opts)
	if err != nil {
		return Copied{}, Kept{}, err
	}
	f, done, err := q.backup(ctx, path, progress)
	if err := errors.Join(err, q.letGo(q.closeDatabase)); err != nil {
		f.Discard()
		return done, Kept{}, err
	}
	kept, err := f.Keep(ctx, progress) // nobody has to wait for it
	return done, kept, err
}

func (q *Queue) backup(ctx context.Context, path string, progress Progress) (*File, Copied, error) {
	if err := q.identify(); err != nil {
		return nil, Copied{}, err
	}
	f, err := NewFile(path)
	if err != nil {
		return nil, Copied{}, err
	}
	done, err := q.CopyTo(ctx, f.WriteAt, progress)
	return f, done, err
}

// damagedSuffix ends the name of a backup that is damaged.
const damagedSuffix = ".damaged"

// Kept is where a backup is.
type Kept struct {
	Path  string
	Sound bool // nothing is wrong with it
}

// File is a file that appears under its name once it is whole, for its owner alone.
type File struct {
	path string
	f    *os.File
}

// NewFile begins a file beside the place that it is for.
func NewFile(path string) (*File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		if p, ok := errors.AsType[*fs.PathError](err); ok {
			err = p.Err // its path is a name that nobody has heard of
		}
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return &File{path: path, f: f}, nil
}

// WriteAt writes a piece of it.
func (n *File) WriteAt(offset int64, piece []byte) error {
	if _, err := n.f.WriteAt(piece, offset); err != nil {
		return fmt.Errorf("write %s: %w", n.path, err)
	}
	return nil
}

// Name is where it is until then.
func (n *File) Name() string { return n.f.Name() }

// Keep looks at all of it, as a database, and gives it its name if it is sound. One that
// is damaged gets a name beside that: what has the name may be the last that is not. If
// that fails there is no file.
func (n *File) Keep(ctx context.Context, progress Progress) (Kept, error) {
	defer n.Discard()
	v, err := VerifyFile(ctx, n.f.Name(), Options{}, progress)
	if err != nil {
		return Kept{}, err
	}
	if !v.Sound() {
		n.path += damagedSuffix
	}
	return Kept{Path: n.path, Sound: v.Sound()}, n.commit()
}

// commit makes it durable and gives it its name, in the place of one that has it.
func (n *File) commit() error {
	err := n.f.Sync()
	if cerr := n.f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(n.f.Name(), n.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(n.path))
	}
	if err != nil {
		_ = os.Remove(n.f.Name()) // the error that counts is being returned
		return fmt.Errorf("write %s: %w", n.path, err)
	}
	n.f = nil
	return nil
}

// Discard removes it, unless it was kept.
func (n *File) Discard() {
	if n == nil || n.f == nil {
		return
	}
	_ = n.f.Close() // it is of no use any more
	_ = os.Remove(n.f.Name())
	n.f = nil
}
