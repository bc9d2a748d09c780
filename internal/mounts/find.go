package mounts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Of returns what the path is on. The path need not exist.
func Of(path string) (Mount, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Mount{}, fmt.Errorf("find what %s is on: %w", path, err)
	}
	t, err := Read()
	if err != nil {
		return Mount{}, err
	}
	return t.Find(abs, os.Readlink)
}

// maxLinks is how many links are followed; the kernel follows as many.
const maxLinks = 40

// Find returns what an absolute path is on. It follows links by means of readlink,
// which is called only for what is on a local file system.
func (t Table) Find(path string, readlink func(string) (string, error)) (Mount, error) {
	at, todo := "/", elements(path)
	links := 0
	for {
		m, ok := t.holds(at)
		switch {
		case !ok:
			return Mount{}, fmt.Errorf("%w: nothing is mounted on %s", ErrTable, at)
		case len(todo) == 0:
			return m, nil
		case !m.Local():
			// What is below is not looked at. It may be mounted over again.
			if below, ok := t.holds(join(at, todo)); ok {
				m = below
			}
			return m, nil
		}
		next := todo[0]
		todo = todo[1:]
		if next == ".." {
			at = filepath.Dir(at)
			continue
		}
		here := filepath.Join(at, next)
		if m, ok := t.holds(here); ok && m.Point == here {
			at = here // a link cannot be mounted on
			continue
		}
		to, err := readlink(here)
		if err != nil {
			at = here // it is no link, or not there
			continue
		}
		if links++; links > maxLinks {
			return Mount{}, fmt.Errorf("find what %s is on: too many links", path)
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		todo = append(elements(to), todo...)
	}
}

// holds returns the mount with the longest point that leads to the path, and of
// several on that point the last.
func (t Table) holds(path string) (found Mount, ok bool) {
	for _, m := range t {
		if len(m.Point) >= len(found.Point) && below(m.Point, path) {
			found, ok = m, true
		}
	}
	return found, ok
}

func below(point, path string) bool {
	return point == "/" || path == point || strings.HasPrefix(path, point+"/")
}

// elements splits a path. It keeps "..", which behind a link leads elsewhere than it
// seems.
func elements(path string) []string {
	var out []string
	for e := range strings.SplitSeq(path, "/") {
		if e != "" && e != "." {
			out = append(out, e)
		}
	}
	return out
}

func join(at string, todo []string) string {
	return filepath.Join(append([]string{at}, todo...)...)
}
