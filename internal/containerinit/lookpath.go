package containerinit

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// usualPath is where programs are looked for by who has no PATH.
const usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookPath finds the program as execvp(3) does: in PATH unless its name has a slash. One that
// is there and cannot be executed counts only if there is no other.
func (p program) lookPath() (string, error) {
	name := p.argv[0]
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	path := usualPath
	for _, kv := range p.environ {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	last := fs.ErrNotExist
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		file := dir + "/" + name
		err := executable(file)
		if err == nil {
			return file, nil
		}
		if errors.Is(err, unix.EACCES) {
			last = err
		}
	}
	return "", last
}

// executable says why a file cannot be executed.
func executable(file string) error {
	st, err := os.Stat(file)
	switch {
	case err != nil:
		return err
	case st.IsDir():
		return unix.EACCES
	}
	return unix.Access(file, unix.X_OK)
}
