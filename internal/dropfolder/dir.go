package dropfolder

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// dir is an open directory. Everything is done relative to it, so that whoever
// exchanges it for another leads nobody astray.
type dir struct {
	f    *os.File
	path string // for messages
}

func (d *dir) fd() int { return int(d.f.Fd()) }

// again repeats a system call that a signal has interrupted, as happens on network
// file systems.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// openDir opens a directory below another one, or at a path when there is none.
func openDir(below *dir, name string) (*dir, error) {
	at, path, flags := unix.AT_FDCWD, name, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC
	if below != nil {
		at, path, flags = below.fd(), filepath.Join(below.path, name), flags|unix.O_NOFOLLOW
	}
	fd := -1
	err := again(func() (err error) {
		fd, err = unix.Openat(at, name, flags, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open folder %s: %w", path, err)
	}
	return &dir{f: os.NewFile(uintptr(fd), path), path: path}, nil
}

// self looks at the directory itself.
func (d *dir) self() (st unix.Stat_t, err error) {
	err = again(func() error { return unix.Fstat(d.fd(), &st) })
	return st, err
}

// stat looks at what has that name, and follows no link.
func (d *dir) stat(name string) (st unix.Stat_t, err error) {
	err = again(func() error { return unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}

func (d *dir) has(name string) (bool, error) {
	_, err := d.stat(name)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// open opens a file for reading. It follows no link, and does not wait for the
// other end of a pipe.
func (d *dir) open(name string) (*os.File, error) {
	return d.openat(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
}

func (d *dir) openat(name string, flags int, mode uint32) (*os.File, error) {
	fd := -1
	err := again(func() (err error) {
		fd, err = unix.Openat(d.fd(), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(d.path, name), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(d.path, name)), nil
}

// each calls f with every name in the directory, in no order, until it returns
// false.
func (d *dir) each(f func(name string) bool) error {
	if _, err := d.f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read folder: %w", err)
	}
	for {
		names, err := d.f.Readdirnames(1024)
		for _, name := range names {
			if !f(name) {
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read folder: %w", err)
		}
	}
}

// move renames, and replaces what has the name.
func (d *dir) move(name string, to *dir, newName string) error {
	err := again(func() error { return unix.Renameat(d.fd(), name, to.fd(), newName) })
	return linkError("rename", d, name, to, newName, err)
}

// moveAside renames, and fails with EEXIST where something has the name. Where the
// file system cannot do that in one step it is done in two: there is no other
// process that gives files a name there.
func (d *dir) moveAside(name string, to *dir, newName string) error {
	err := again(func() error {
		return unix.Renameat2(d.fd(), name, to.fd(), newName, unix.RENAME_NOREPLACE)
	})
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.ENOTSUP) {
		return linkError("rename", d, name, to, newName, err)
	}
	there, err := to.has(newName)
	if there {
		err = unix.EEXIST
	}
	if err != nil {
		return linkError("rename", d, name, to, newName, err)
	}
	return d.move(name, to, newName)
}

func linkError(op string, d *dir, name string, to *dir, newName string, err error) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: op, Old: filepath.Join(d.path, name), New: filepath.Join(to.path, newName), Err: err}
}

// remove removes a file; that it is not there is no error.
func (d *dir) remove(name string) error {
	err := again(func() error { return unix.Unlinkat(d.fd(), name, 0) })
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: filepath.Join(d.path, name), Err: err}
	}
	return nil
}

// write makes a file, or replaces it, in one step and with its content on disk.
// That the name is on disk too takes a sync.
func (d *dir) write(ticket, name string, content []byte) error {
	temp, err := d.stage(ticket, content)
	if err != nil {
		return err
	}
	return d.publish(temp, ticket, name, temp.Sync())
}

// stage writes a file that has no name yet for others.
func (d *dir) stage(ticket string, content []byte) (*os.File, error) {
	temp := tempName(ticket)
	if err := d.remove(temp); err != nil { // of a crash
		return nil, err
	}
	f, err := d.openat(temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(content); err != nil {
		return nil, errors.Join(err, f.Close(), d.remove(temp)) // on a full disk it would stay in the way
	}
	return f, nil
}

// publish gives a staged file its name, unless syncing it has failed.
func (d *dir) publish(f *os.File, ticket, name string, err error) error {
	temp := tempName(ticket)
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.move(temp, d, name)
	}
	if err != nil {
		return errors.Join(err, d.remove(temp))
	}
	return nil
}

// syncWidth is how many files are synced at once. A file system commits together
// what is asked for at the same time.
const syncWidth = 16

// syncFiles puts the contents of files on disk. It returns an error, or nil, for
// each; a file that is nil has nothing to be synced.
func syncFiles(files []*os.File) []error {
	errs := make([]error, len(files))
	var g errgroup.Group
	g.SetLimit(syncWidth)
	for i, f := range files {
		if f != nil {
			g.Go(func() error {
				errs[i] = f.Sync()
				return nil
			})
		}
	}
	_ = g.Wait() // each has its own
	return errs
}

// sync puts the names in the directory on disk. Some file systems have nothing to
// do for that, and say so.
func (d *dir) sync() error {
	err := d.f.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}

func syncAll(dirs ...*dir) error {
	for _, d := range dirs {
		if err := d.sync(); err != nil {
			return err
		}
	}
	return nil
}

// notThere says whether an error is that there is nothing of the name.
func notThere(err error) bool { return errors.Is(err, unix.ENOENT) }

// full says whether an error is about the file system or the process, so that what
// comes next would fail as well. What a disk cannot read (EIO) is about one file.
func full(err error) bool {
	return slices.ContainsFunc([]error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.ENOMEM, unix.EMFILE, unix.ENFILE},
		func(kind error) bool { return errors.Is(err, kind) })
}
