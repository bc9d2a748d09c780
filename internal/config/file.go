package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The file says which programs run as its reader (task types), and where the
// queue is. So who can write it can run programs as its reader, and it is
// refused unless it is a regular file of the reader's own, or of root's, that
// neither a group nor others can write. The folders above it are not looked at:
// a file that somebody else puts in its place is somebody else's. Links are
// followed, since people keep such files in a repository.

// maxFileBytes bounds the file. One that is larger is a mistake, or somebody's
// attempt to fill the memory.
const maxFileBytes = 1 << 20

// readFile returns what is in the file, and when that was changed last. found is false when it is not there.
// What is wrong with it is a text for a Problem.
func readFile(path string, uid int) (data []byte, at time.Time, found bool, wrong string) {
	if path == os.DevNull { // how one asks for no file
		return nil, at, true, ""
	}
	// Opening a pipe would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return nil, at, false, ""
	case err != nil:
		return nil, at, true, "the file cannot be read: " + cause(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, at, true, "the file cannot be looked at: " + cause(err)
	}
	if wrong := distrust(info, uid); wrong != "" {
		return nil, at, true, wrong
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	switch {
	case err != nil:
		return nil, at, true, "the file cannot be read: " + cause(err)
	case len(data) > maxFileBytes:
		return nil, at, true, "the file is larger than 1 MiB; a configuration is not"
	}
	return data, info.ModTime(), true, ""
}

// distrust says why a file cannot be a configuration for a user; "" if it can.
func distrust(info fs.FileInfo, uid int) string {
	switch st, ok := info.Sys().(*syscall.Stat_t); {
	case info.IsDir():
		return "this is a folder, not a file"
	case !info.Mode().IsRegular():
		return "this is not a regular file"
	case ok && int(st.Uid) != uid && st.Uid != 0:
		return fmt.Sprintf("the file belongs to uid %d, and not to you (uid %d) or root: it says which programs run as you, so make a copy of your own", st.Uid, uid)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Sprintf("the file can be written by others (mode %04o), and it says which programs run as you: chmod go-w it, after a look at what it says", info.Mode().Perm())
	}
	return ""
}

// cause is an error without the path, which the Problem has.
func cause(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	return err.Error()
}
