package dropfolder

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrUnsafe is returned for a folder that others could write to, or that is not
// what its name says.
var ErrUnsafe = errors.New("the drop folder is not safe to use")

// The directories of a drop folder.
const (
	pendingName  = "pending"
	takenDirName = "taken"
	doneName     = "done"
	rejectedName = "rejected"
	requestsName = "requests"
)

// layout is a drop folder that is open. All of its directories are ours alone to
// write to.
type layout struct {
	root, pending, taken, done, rejected, requests *dir
	nameMax                                        int // bytes of a file name
}

// openLayout opens a drop folder and makes what is missing.
func openLayout(path string) (_ *layout, err error) {
	root, err := openDir(nil, path)
	if err != nil {
		return nil, err
	}
	l := &layout{root: root, nameMax: nameMax(root)}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if err := checkSelf(root); err != nil {
		return nil, err
	}
	for name, d := range l.dirs() {
		if *d, err = openOrMake(root, name); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *layout) dirs() map[string]**dir {
	return map[string]**dir{
		pendingName: &l.pending, takenDirName: &l.taken, doneName: &l.done, rejectedName: &l.rejected, requestsName: &l.requests,
	}
}

// nameMax asks how long a name may be.
func nameMax(d *dir) int {
	const usual = 255
	var st unix.Statfs_t
	if again(func() error { return unix.Fstatfs(d.fd(), &st) }) != nil || st.Namelen < 100 || st.Namelen > usual {
		return usual
	}
	return int(st.Namelen)
}

func openOrMake(root *dir, name string) (*dir, error) {
	d, err := openChecked(root, name)
	if !errors.Is(err, unix.ENOENT) {
		return d, err
	}
	err = again(func() error { return unix.Mkdirat(root.fd(), name, 0o700) })
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make folder %s/%s: %w", root.path, name, err)
	}
	if err := root.sync(); err != nil {
		return nil, fmt.Errorf("make folder %s/%s: %w", root.path, name, err)
	}
	return openChecked(root, name)
}

// openChecked opens a directory that is there, and ours.
func openChecked(root *dir, name string) (*dir, error) {
	path := root.path + "/" + name
	st, err := root.stat(name)
	if err != nil {
		return nil, fmt.Errorf("look at folder %s: %w", path, err)
	}
	if err := checkOwned(path, &st); err != nil {
		return nil, err
	}
	d, err := openDir(root, name)
	if err != nil {
		return nil, err
	}
	// What was opened is looked at again: it may have been exchanged meanwhile.
	if err := checkSelf(d); err != nil {
		return nil, errors.Join(err, d.f.Close())
	}
	return d, nil
}

func checkSelf(d *dir) error {
	st, err := d.self()
	if err != nil {
		return fmt.Errorf("look at folder %s: %w", d.path, err)
	}
	return checkOwned(d.path, &st)
}

// checkOwned refuses what is no directory, or one that somebody else can write to.
func checkOwned(path string, st *unix.Stat_t) error {
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return fmt.Errorf("%w: %s is a symbolic link; put a folder in its place", ErrUnsafe, path)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%w: %s is not a folder; move it away", ErrUnsafe, path)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%w: %s belongs to uid %d; make one of your own", ErrUnsafe, path, st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%w: others can write to %s (mode %04o); run: chmod go-w %s", ErrUnsafe, path, st.Mode&0o7777, path)
	}
	return nil
}

// check says whether all directories still are what they were when they were
// opened. errMoved says that they have to be opened again.
func (l *layout) check(path string) error {
	var st unix.Stat_t
	if err := again(func() error { return unix.Stat(path, &st) }); err != nil {
		return fmt.Errorf("look at folder %s: %w", path, err)
	}
	if err := l.root.sameAs(&st); err != nil {
		return err
	}
	for name, d := range l.dirs() {
		st, err := l.root.stat(name)
		if errors.Is(err, unix.ENOENT) {
			return errMoved
		}
		if err != nil {
			return fmt.Errorf("look at folder %s: %w", (*d).path, err)
		}
		if err := (*d).sameAs(&st); err != nil {
			return err
		}
	}
	return nil
}

var errMoved = errors.New("the folder is another one now")

func (d *dir) sameAs(st *unix.Stat_t) error {
	own, err := d.self()
	if err != nil {
		return fmt.Errorf("look at folder %s: %w", d.path, err)
	}
	if own.Dev != st.Dev || own.Ino != st.Ino {
		return errMoved
	}
	return checkOwned(d.path, &own)
}

func (l *layout) close() {
	for _, d := range l.dirs() {
		if *d != nil {
			_ = (*d).f.Close() // it was only read from
		}
	}
	_ = l.root.f.Close()
}
