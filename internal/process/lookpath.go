package process

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// defaultPath is what a task without PATH in its environment gets, as from sh.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// statFile is a variable so that tests can have it fail.
var statFile = unix.Stat

// lookPath finds the program as a shell in the task's place would: by the
// task's PATH and working directory, never by ours.
func lookPath(name, dir string, env []string, host string) (string, *supervisorpb.End) {
	if strings.Contains(name, "/") {
		full := name
		if !filepath.IsAbs(full) {
			full = filepath.Join(dir, name)
		}
		return name, explain(executable(full), name, "", host)
	}
	path := defaultPath
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
			break
		}
	}
	var denied, unknown error
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
		case mayPass(err):
			unknown = err
		}
	}
	return "", explain(cmp.Or(unknown, denied, fs.ErrNotExist), name, path, host)
}

// executable says whether the file can be executed by us. A directory cannot.
func executable(path string) error {
	var st unix.Stat_t
	if err := statFile(path, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fs.ErrPermission
	}
	return unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS)
}

// mayPass says whether an error is about a machine or a file server that may be
// well again soon, and not about what the user has named.
func mayPass(err error) bool {
	return err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && !programsFault(err)
}

// explain says why there is no program to run.
func explain(err error, name, path, host string) *supervisorpb.End {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return userFault(126, "command not executable: %s; if it is a program or a script: chmod +x %s", name, name)
	case mayPass(err):
		return notStarted("cannot look for the command %s on %s: %v", name, host, err)
	case strings.ContainsAny(name, " \t\n"):
		return userFault(127, "command not found: %s; a program and its arguments are words of their own: leave out the quotes around them, or use sh -c", name)
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
	err := statFile(dir, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return userFault(127, "working directory %s does not exist on host %s", dir, host)
	case mayPass(err):
		return notStarted("cannot look at the working directory %s on host %s: %v", dir, host, err)
	case err != nil:
		return userFault(126, "working directory %s cannot be used on host %s: %v", dir, host, err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return userFault(126, "working directory %s is not a directory on host %s", dir, host)
	}
	err = unix.Faccessat(unix.AT_FDCWD, dir, unix.X_OK, unix.AT_EACCESS)
	if mayPass(err) {
		return notStarted("cannot look at the working directory %s on host %s: %v", dir, host, err)
	}
	if err != nil {
		return userFault(126, "working directory %s cannot be entered on host %s: %v", dir, host, err)
	}
	return nil
}
