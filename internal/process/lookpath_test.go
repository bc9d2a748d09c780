package process

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	for path, mode := range map[string]os.FileMode{"bin/prog": 0o755, "other/prog": 0o755, "bin/plain": 0o644, "here": 0o755} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, path), nil, mode))
	}
	for _, c := range []struct {
		name, path, want string
		code             int32
	}{
		{name: "prog", path: dir + "/bin:" + dir + "/other", want: dir + "/bin/prog"},
		{name: "prog", path: "other:bin", want: dir + "/other/prog"},
		{name: "here", path: ":/usr/bin", want: dir + "/here"},
		{name: "here", path: "/usr/bin", code: 127},
		{name: "plain", path: dir + "/bin", code: 126},
		{name: "bin", path: dir, code: 126}, // a directory
		{name: "./here", path: "", want: "./here"},
		{name: "./gone", path: "", code: 127},
		{name: dir + "/bin/plain", code: 126},
	} {
		got, end := lookPath(c.name, dir, []string{"X=1", "PATH=" + c.path}, "here")
		if got != c.want && c.code == 0 || end.GetExitCode() != c.code || (end != nil) != (c.code != 0) {
			t.Errorf("lookPath(%q, PATH=%q) = %q, %v; want %q, %d", c.name, c.path, got, end, c.want, c.code)
		}
		if end != nil && end.GetMessage() == "" {
			t.Errorf("lookPath(%q) says nothing", c.name)
		}
	}
}

// What a file server cannot tell for the moment is no mistake of the user: the
// attempt could not start, and costs none of the task's retries.
func TestWhatCannotBeLookedAtIsNobodysMistake(t *testing.T) {
	old := statFile
	t.Cleanup(func() { statFile = old })
	for _, c := range []struct {
		err  error
		want supervisorpb.End_Kind
	}{
		{unix.ESTALE, supervisorpb.End_KIND_NOT_STARTED},
		{unix.EIO, supervisorpb.End_KIND_NOT_STARTED},
		{unix.ETIMEDOUT, supervisorpb.End_KIND_NOT_STARTED},
		{unix.ENOMEM, supervisorpb.End_KIND_NOT_STARTED},
		{unix.ENOENT, supervisorpb.End_KIND_EXITED},
		{unix.ENOTDIR, supervisorpb.End_KIND_EXITED},
		{unix.EACCES, supervisorpb.End_KIND_EXITED},
		{unix.ELOOP, supervisorpb.End_KIND_EXITED},
	} {
		statFile = func(string, *unix.Stat_t) error { return c.err }
		_, inPath := lookPath("prog", "/", []string{"PATH=/a:/b"}, "here")
		_, named := lookPath("/a/prog", "/", nil, "here")
		for where, end := range map[string]*supervisorpb.End{"in PATH": inPath, "named": named, "directory": checkDir("/a", "here")} {
			if end.GetKind() != c.want || end.GetMessage() == "" {
				t.Errorf("%v, %s: %v, want %v", c.err, where, end, c.want)
			}
		}
	}
}

// One directory of PATH that cannot be looked at hides no program of another.
func TestPathPassesOverWhatCannotBeLookedAt(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "prog"), nil, 0o755))
	old := statFile
	t.Cleanup(func() { statFile = old })
	statFile = func(path string, st *unix.Stat_t) error {
		if filepath.Dir(path) == "/stale" {
			return unix.ESTALE
		}
		return old(path, st)
	}
	if got, end := lookPath("prog", "/", []string{"PATH=/stale:" + dir}, "here"); end != nil || got != dir+"/prog" {
		t.Errorf("%q, %v", got, end)
	}
}
