package containerinit

import (
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// usualPath is where programs are looked for by who has no PATH.
const usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookPath finds a program as execvp(3) does: in PATH unless its name has a slash. One that
// is there and cannot be executed counts only if there is no other.
func lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	path, ok := os.LookupEnv("PATH")
	if !ok {
		path = usualPath
	}
	var last error = fs.ErrNotExist
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		file := dir + "/" + name
		switch err := executable(file); {
		case err == nil:
			return file, nil
		case err == unix.EACCES: //nolint:errorlint // executable returns it as it is
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
