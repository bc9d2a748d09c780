package access

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ErrUnsafeFile is returned for a secret that others can read or have made, and
// for a directory that is not ours alone.
var ErrUnsafeFile = errors.New("not safe to use")

// ErrExists is returned instead of replacing a secret that is there.
var ErrExists = errors.New("is there already")

// maxSecretBytes bounds a file: certificate and key are 2 KiB.
const maxSecretBytes = 64 << 10

// makePrivateDir makes a directory for secrets if it is not there, and makes sure
// that it is ours alone: nobody else can put a file there or exchange one.
func makePrivateDir(dir string, uid uint32) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of the secrets: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("directory of the secrets: %w", err)
	}
	if !info.IsDir() {
		return unsafe("%s is not a directory; remove it: %w", dir, ErrUnsafeFile)
	}
	return checkOurs(dir, info, uid, 0o700)
}

func unsafe(format string, args ...any) error { return task.Errorf(task.CodeConflict, format, args...) }

// What others may do with a file.
const (
	secret fs.FileMode = 0o600
	public fs.FileMode = 0o644 // it may be root's, too
)

// checkOurs says whether a file or directory is ours, and gives others no more
// than the mode does.
func checkOurs(path string, info fs.FileInfo, uid uint32, mode fs.FileMode) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return unsafe("the owner of %s cannot be told: %w", path, ErrUnsafeFile)
	case st.Uid != uid && (st.Uid != 0 || mode&0o004 == 0):
		return unsafe("%s belongs to %s, and we are %s; use one of our own: %w", path, userText(st.Uid), userText(uid), ErrUnsafeFile)
	case info.Mode().Perm()&^mode&0o077 != 0:
		return unsafe("%s is open to others (mode %04o): they may know or have changed it; make another, or, if you know that nobody did: chmod %o %s: %w",
			path, info.Mode().Perm(), mode, path, ErrUnsafeFile)
	}
	return nil
}

// readPrivate returns a file. It is refused if it is no regular file, not ours,
// more open to others than the mode, or in a directory where others can exchange
// it. The error wraps fs.ErrNotExist if it is not there.
func readPrivate(path string, uid uint32, mode fs.FileMode) ([]byte, error) {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if err := checkOurs(dir, info, uid, 0o755); err != nil {
		return nil, err
	}
	// Without O_NONBLOCK a FIFO would hold us up.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, unsafe("%s is a symbolic link; name the file itself: %w", path, ErrUnsafeFile)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, unsafe("%s is not a regular file; remove it: %w", path, ErrUnsafeFile)
	}
	if err := checkOurs(path, info, uid, mode); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err == nil && len(data) > maxSecretBytes {
		err = unsafe("%s is larger than any secret: %w", path, ErrUnsafeFile)
	}
	return data, err
}

// writePrivate stores a file with mode 0600, whole or not at all. What is there is
// replaced only if force is set; else the error is ErrExists.
func writePrivate(path string, data []byte, force bool) (err error) {
	tmp := path + "." + rand.Text()
	defer func() {
		if rmErr := os.Remove(tmp); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
	}()
	if err := writeSynced(tmp, data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	// A link is made only where nothing is; a rename replaces.
	put := os.Link
	if force {
		put = os.Rename
	}
	switch err := put(tmp, path); {
	case errors.Is(err, fs.ErrExist):
		return task.Errorf(task.CodeConflict, "%s %w; replace it with --force", path, ErrExists)
	case err != nil:
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) {
		err = nil // a file system that has no such thing
	}
	return errors.Join(err, d.Close())
}
