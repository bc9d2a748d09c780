package process

import (
	"os"
	"path/filepath"
	"testing"
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
		got, end := lookPath(c.name, dir, []string{"X=1", "PATH=" + c.path})
		if got != c.want && c.code == 0 || end.GetExitCode() != c.code || (end != nil) != (c.code != 0) {
			t.Errorf("lookPath(%q, PATH=%q) = %q, %v; want %q, %d", c.name, c.path, got, end, c.want, c.code)
		}
		if end != nil && end.GetMessage() == "" {
			t.Errorf("lookPath(%q) says nothing", c.name)
		}
	}
}
