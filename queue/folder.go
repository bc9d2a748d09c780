package queue

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// makeFolder makes the queue directory, if it is not there, so that a power failure does
// not take it away again, with the tasks that were accepted in it.
func makeFolder(dir string) error {
	var missing []string
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing = append(missing, d)
	}
	err := os.MkdirAll(dir, 0o700)
	for _, d := range missing {
		if err == nil {
			err = syncDir(filepath.Dir(d))
		}
		if errors.Is(err, fs.ErrPermission) {
			err = nil // one may make a folder where one may not look
		}
	}
	if err != nil {
		return task.Errorf(task.CodeUnavailable, "cannot make queue directory %s: %w", dir, err)
	}
	if len(missing) > 0 {
		Ignore(dir)
	}
	return mine(dir)
}

// Ignore keeps a folder that was just made out of a repository that the workspace may be.
// Whether that can be written says nothing about the folder, so there is no error.
func Ignore(dir string) {
	_ = os.WriteFile(filepath.Join(dir, ".gitignore"), []byte("*\n"), 0o600)
}

// mine refuses a folder in which others could put tasks for us to run: they would run
// with our rights.
func mine(dir string) error {
	if err := Owned(dir); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return task.Errorf(task.CodeUnavailable, "look at queue directory %s: %w", dir, err)
	}
	if st.Mode&0o022 != 0 {
		return task.Errorf(task.CodeConflict, "others can write to the queue's folder %s (mode %04o), and could have their programs run as you; run: chmod go-w %s", dir, st.Mode&0o7777, dir)
	}
	return nil
}

// Owned refuses a queue that belongs to somebody else; one that is not there is nobody's.
// Root is somebody else, too: what it submits is not to run as the owner of the queue.
func Owned(dir string) error {
	for _, path := range []string{dir, filepath.Join(dir, currentFile)} {
		var st unix.Stat_t
		err := unix.Stat(path, &st)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return task.Errorf(task.CodeUnavailable, "look at queue directory %s: %w", dir, err)
		case int(st.Uid) != os.Geteuid():
			return task.Errorf(task.CodeConflict, "the queue in %s belongs to uid %d, and you are uid %d; become that user first", dir, st.Uid, os.Geteuid())
		}
	}
	return nil
}

// maxSmall bounds what is read of the files that say who has the queue and which database
// is in use: none has a kilobyte.
const maxSmall = 64 << 10

// readSmall reads such a file. Whatever else lies under its name is not waited for, not
// followed and not read into memory.
func readSmall(path string) (b []byte, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	b, err = io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err == nil && len(b) > maxSmall {
		err = fmt.Errorf("%s is larger than any that this program writes", path)
	}
	return b, err
}
