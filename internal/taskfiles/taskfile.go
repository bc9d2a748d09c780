package taskfiles

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// errStrangeFile is returned for what is not a plain file of the task's.
var errStrangeFile = errors.New("not a regular file of the task's user")

// newSuffix is for files that are renamed when they are whole.
const newSuffix = ".new"

// OpenFile is a variable so that tests can have it fail.
var OpenFile = os.OpenFile

// openOwn opens a file of the task's.
func openOwn(path string) (*os.File, int64, error) {
	f, st, err := openPlain(path)
	if err == nil && int(st.Uid) != os.Getuid() {
		return nil, 0, errors.Join(errStrangeFile, f.Close())
	}
	return f, st.Size, err
}

// OwnFile says whether a file belongs to our user.
func OwnFile(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}

// openPlain opens a file that a task has written or put something else in place
// of: a FIFO must not block us, nor a link lead us elsewhere.
func openPlain(path string) (f *os.File, st unix.Stat_t, err error) {
	f, err = OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, st, err
	}
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errStrangeFile
	}
	if err != nil {
		return nil, st, errors.Join(err, f.Close())
	}
	return f, st, nil
}

// writeNew writes a file beside those that tasks write to. A link or a FIFO that
// one of them has put there is neither followed nor waited for.
func writeNew(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}
