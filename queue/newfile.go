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
)

// File is a file that appears under its name once it is whole, for its owner alone.
type File struct {
	path string
	f    *os.File
}

// NewFile begins a file beside the place that it is for. What one has left there that was
// killed is removed.
func NewFile(path string) (*File, error) {
	removeUnfinished(path)
	for {
		f, err := os.CreateTemp(filepath.Dir(path), unfinishedPrefix(path)+"*")
		if err != nil {
			if p, ok := errors.AsType[*fs.PathError](err); ok {
				err = p.Err // its path is a name that nobody has heard of
			}
			return nil, fmt.Errorf("write %s: %w", path, err)
		}
		// Whoever holds it is writing it; shared, for it is locked once more when it is looked
		// at. Where there are no locks nobody can tell, and nobody removes it.
		_ = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if isNamed(f, f.Name()) {
			return &File{path: path, f: f}, nil
		}
		_ = f.Close() // it was taken for one that was left, before it was locked
	}
}

// unfinishedPrefix begins the names of files that are being written for a place. A number
// follows.
func unfinishedPrefix(path string) string { return "." + filepath.Base(path) + "." }

// removeUnfinished removes what was being written for a place by somebody who is gone.
func removeUnfinished(path string) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return // who writes there will say what is wrong
	}
	for _, e := range entries {
		number, ours := strings.CutPrefix(e.Name(), unfinishedPrefix(path))
		if !ours || !e.Type().IsRegular() || number == "" || strings.Trim(number, "0123456789") != "" {
			continue
		}
		removeUnheld(filepath.Join(filepath.Dir(path), e.Name()))
	}
}

// removeUnheld removes a file that nobody has locked.
func removeUnheld(path string) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return // it is gone, or not ours
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && isNamed(f, path) {
		_ = os.Remove(path) // the next one tries again
	}
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
