package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func TestWriteReference(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "config.toml")
	if err := config.WriteReference(path, false); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v; want a file for its owner alone", info, err)
	}
	if err := os.WriteFile(path, []byte("grpc_addr = \"none\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := config.WriteReference(path, false); task.CodeOf(err) != task.CodeConflict {
		t.Errorf("a file that is there: %v", err)
	}
	if got := read(t, path); got != "grpc_addr = \"none\"\n" {
		t.Errorf("the file became %q", got)
	}
	link := filepath.Join(t.TempDir(), "link.toml")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := config.WriteReference(link, true); err != nil {
		t.Fatal(err)
	}
	if read(t, path) != config.Reference() {
		t.Error("the file that the link leads to was not replaced")
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestReferenceIsTheDefault: the file that init writes changes nothing, neither
// as it is nor with every key put into action, in which case every key that a
// file can have is there and says the default.
func TestReferenceIsTheDefault(t *testing.T) {
	t.Parallel()
	want := load(t, "")
	same(t, load(t, config.Reference()), want, config.FromDefault)
	var active strings.Builder
	for line := range strings.Lines(config.Reference()) {
		if len(line) > 1 && line[0] == '#' && line[1] != ' ' && line[1] != '\n' {
			line = line[1:]
		}
		active.WriteString(line)
	}
	same(t, load(t, active.String()), want, config.FromFile)
}

// same compares every value but those that no file has, and their source.
func same(t *testing.T, got, want config.Config, kind config.SourceKind) {
	t.Helper()
	outside := map[string]bool{}
	for _, s := range config.Settings() {
		outside[s.Key] = s.Outside != ""
	}
	a, b := got.Values(), want.Values()
	if len(a) != len(b) {
		t.Fatalf("%d values, want %d", len(a), len(b))
	}
	for i := range a {
		if outside[a[i].Key] {
			continue
		}
		if a[i].Key != b[i].Key || a[i].Literal != b[i].Literal {
			t.Errorf("%s is %s; want %s, %s", a[i].Key, a[i].Literal, b[i].Key, b[i].Literal)
		}
		if a[i].Source.Kind != kind {
			t.Errorf("%s is from %s", a[i].Key, a[i].Source)
		}
	}
}
