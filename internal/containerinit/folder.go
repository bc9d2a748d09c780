package containerinit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// The program runs as the user to whom its record belongs, and may put anything in the
// place of it: of the folder, and of what is in it. So no link is followed, and what is
// strange says one thing: that its program has begun.

// errStrange is for what nobody but the program can have made of its record.
var errStrange = errors.New("it was spoiled")

// strange marks the errors that say something about a file itself. All others may pass.
func strange(err error) error {
	for _, e := range []error{unix.ELOOP, unix.ENOTDIR, unix.EISDIR, unix.EACCES, unix.EPERM, unix.ENXIO, unix.ENODEV} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", errStrange, err)
		}
	}
	return err
}

// Prepare makes the folder of a record, with the log of its attempt in it by another name.
func Prepare(dir, log string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	d, err := openFolder(dir)
	if err != nil {
		return err
	}
	defer d.close()
	return taskfiles.ShareLog(log, d.f, OutputFile)
}

// folder is that of a record, open.
type folder struct{ f *os.File }

// openFolder opens it. The error matches fs.ErrNotExist if there is none.
func openFolder(dir string) (folder, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return folder{}, strange(err)
	}
	st, err := f.Stat()
	switch {
	case err != nil:
		return folder{}, errors.Join(err, f.Close())
	case st.Mode().Perm()&0o700 != 0o700: // as which it was made
		return folder{}, errors.Join(fmt.Errorf("%w: %s is %s", errStrange, dir, st.Mode()), f.Close())
	}
	return folder{f}, nil
}

func (d folder) close() { _ = d.f.Close() } // it was only read from

// openat opens a file in it.
func (d folder) openat(name string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(d.f.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, strange(&os.PathError{Op: "open", Path: filepath.Join(d.f.Name(), name), Err: err})
		default:
			return os.NewFile(uintptr(fd), filepath.Join(d.f.Name(), name)), nil
		}
	}
}

// plain opens a file that is a file.
func (d folder) plain(name string) (*os.File, error) {
	f, err := d.openat(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, errors.Join(err, f.Close())
	case !st.Mode().IsRegular():
		return nil, errors.Join(fmt.Errorf("%w: %s is no regular file", errStrange, f.Name()), f.Close())
	}
	return f, nil
}

// maxRecord is more than any file of a record has.
const maxRecord = 64 << 10

// read reads all of a file of a record.
func read(f *os.File) ([]byte, error) { return io.ReadAll(io.LimitReader(f, maxRecord)) }
