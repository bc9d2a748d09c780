package queue

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// An access to the map that the kernel refuses (SIGBUS) has one of several causes. The
// file has become shorter: that is damage. The disk does not give back what is on it. Or
// the file system is full, and in memory: where nothing was ever written, as in a copy that
// leaves out zeros, even reading needs a page. In the latter two a repair is the wrong
// advice, for it would make a database that lacks what is there.

// ErrUnreadableFile is what errors.Is finds when the database file may be whole, and
// cannot be read. As after ErrDamagedFile nothing can be done with the queue any more.
var ErrUnreadableFile = errors.New("the database file cannot be read")

// refused is why a file cannot be read that may be whole.
type refused struct {
	cause error // nil = its file system is full
}

// whyRefused finds out why an access to the map of a file in dir was refused; nil = it is
// damaged.
func whyRefused(f *os.File, dir string) *refused {
	if f == nil {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return &refused{cause: err}
	}
	m, ok := readMeta(f)
	used := int64(m.high) * int64(m.page)
	if ok = ok && m.page > 0; !ok {
		used = info.Size()
	}
	if used == 0 || info.Size() < used {
		return nil
	}
	switch err := readThrough(f, used); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return &refused{cause: err}
	}
	if diskFull(dir) {
		return &refused{}
	}
	return nil // it has become longer again, as bbolt makes it
}

// readThrough reads a file up to a size, and not through a map.
func readThrough(f io.ReaderAt, size int64) error {
	room := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(room)) {
		if _, err := f.ReadAt(room[:min(int64(len(room)), size-at)], at); err != nil {
			return fmt.Errorf("read it at %d: %w", at, err)
		}
	}
	return nil
}

// failUnreadable notes that the file cannot be read.
func (q *Queue) failUnreadable(u *refused) error {
	const over = "Nothing is read or written any more"
	if u.cause == nil {
		return q.end(task.Errorf(task.CodeExhausted,
			"%w: database %s is on a file system that is full, which needs room to show a part of it. It is not known to be damaged. %s: free some space, and start again",
			ErrUnreadableFile, q.path, over))
	}
	return q.end(task.Errorf(task.CodeUnavailable,
		"%w: database %s: %w. That is the disk, or what it is attached by, and no reason for a repair: look at the kernel's log (dmesg). %s: start again when the disk can be read. If it cannot be any more, put folder %s back from a backup, on another disk",
		ErrUnreadableFile, q.path, u.cause, over, q.opts.Dir))
}
