package template

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// unfitError is a verdict about a file: it stays until somebody changes the file. Whatever
// else goes wrong may be the file server's, and be otherwise in a moment.
type unfitError struct{ err error }

func (e *unfitError) Error() string { return e.err.Error() }
func (e *unfitError) Unwrap() error { return e.err }

func unfit(format string, args ...any) error { return &unfitError{fmt.Errorf(format, args...)} }

// unread is that it cannot be told now what a template is.
func unread(name string, err error) error {
	return task.Errorf(task.CodeUnavailable, "template %s cannot be read now: %w", name, err)
}

// load reads a file, unless it is as it was.
func (f *Folder) load(path string) (*Template, error) {
	in, err := os.OpenFile(path, os.O_RDONLY|nonBlocking, 0) // a pipe is refused, and not waited for
	if err != nil {
		return nil, err
	}
	defer in.Close() //nolint:errcheck // only read from
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case info.IsDir():
		return nil, fs.ErrNotExist
	case !info.Mode().IsRegular():
		return nil, unfit("%s is no regular file", path)
	case info.Mode().Perm()&0o002 != 0:
		return nil, unfit("everybody can write %s, and what is in it runs as you: chmod o-w %s", path, path)
	case !f.trusts(info):
		return nil, unfit("%s is another user's, and what is in it runs as you: look at it, and put a copy of your own in its place", path)
	case info.Size() > MaxBytes:
		return nil, unfit("%s is longer than %d bytes", path, MaxBytes)
	}
	f.mu.Lock()
	was, known := f.read[path]
	f.mu.Unlock()
	if known && was.size == info.Size() && was.changed.Equal(info.ModTime()) {
		return was.template, nil
	}
	text, err := io.ReadAll(io.LimitReader(in, MaxBytes+1))
	if err != nil {
		return nil, err
	}
	t, err := Parse(stem(filepath.Base(path)), path, string(text))
	if err != nil {
		return nil, &unfitError{err}
	}
	f.mu.Lock()
	f.read[path] = file{t, info.Size(), info.ModTime()}
	f.mu.Unlock()
	return t, nil
}

// trusts says that nobody but us and root may change what it is about: its owner can.
func (f *Folder) trusts(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (st.Uid == f.uid || st.Uid == 0)
}

// guarded says what is wrong with the folder in which a template was found: whoever may
// write it puts another file in the place of ours.
func (f *Folder) guarded(name string) error {
	info, err := os.Stat(f.dir)
	if err != nil {
		return unread(name, err)
	}
	if m := info.Mode(); m.Perm()&0o002 != 0 && m&fs.ModeSticky == 0 {
		return task.Errorf(task.CodeInvalid, "template %s: everybody can replace what is in %s, and it runs as you: chmod o-w %s", name, f.dir, f.dir)
	}
	return nil
}

// mounted says whether a file that is not in the folder is none of its. A folder that is
// not there, or has nothing in it, is one that its file server has not brought: a task must
// not become another job for that.
func (f *Folder) mounted() error {
	d, err := os.Open(f.dir)
	if err == nil {
		_, err = d.Readdirnames(1)
		err = errors.Join(err, d.Close())
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		return task.Errorf(task.CodeUnavailable, "the folder of templates, %s, is empty: mount it, put the templates there, or take it out of [slurm] of the configuration", f.dir)
	case errors.Is(err, fs.ErrNotExist):
		return task.Errorf(task.CodeUnavailable, "the folder of templates, %s, is not there: mount it, make it, or take it out of [slurm] of the configuration", f.dir)
	default:
		return task.Errorf(task.CodeUnavailable, "the folder of templates cannot be read now: %w", err)
	}
}
