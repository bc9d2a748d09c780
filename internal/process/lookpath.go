package process

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// defaultPath is what a task without PATH in its environment gets, as from sh.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookPath finds the program as a shell in the task's place would: by the
// task's PATH and working directory, never by ours.
func lookPath(name, dir string, env []string) (string, *supervisorpb.End) {
	if strings.Contains(name, "/") {
		full := name
		if !filepath.IsAbs(full) {
			full = filepath.Join(dir, name)
		}
		return name, explain(executable(full), name, "")
	}
	path := defaultPath
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
			break
		}
	}
	var denied error
	for p := range strings.SplitSeq(path, ":") {
		full := filepath.Join(p, name)
		if !filepath.IsAbs(full) { // an empty or relative element means the working directory
			full = filepath.Join(dir, full)
		}
		switch err := executable(full); {
		case err == nil:
			return full, nil
		case errors.Is(err, fs.ErrPermission):
			denied = err
		}
	}
	if denied != nil {
		return "", explain(denied, name, path)
	}
	return "", explain(fs.ErrNotExist, name, path)
}

// executable says whether the file can be executed by us. A directory cannot.
func executable(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fs.ErrPermission
	}
	return unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS)
}

func explain(err error, name, path string) *supervisorpb.End {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return userFault(126, "command not executable: %s", name)
	case path != "":
		return userFault(127, "command not found: %s (PATH=%s)", name, path)
	default:
		return userFault(127, "command not found: %s", name)
	}
}

// checkDir says what is wrong with a working directory.
func checkDir(dir, host string) *supervisorpb.End {
	if dir == "" {
		return nil
	}
	var st unix.Stat_t
	err := unix.Stat(dir, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return userFault(127, "working directory %s does not exist on host %s", dir, host)
	case err != nil:
		return userFault(126, "working directory %s cannot be used on host %s: %v", dir, host, err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return userFault(126, "working directory %s is not a directory on host %s", dir, host)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.X_OK, unix.AT_EACCESS); err != nil {
		return userFault(126, "working directory %s cannot be entered on host %s: %v", dir, host, err)
	}
	return nil
}
