package taskfiles

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestSetAside: two restorations after one another, and nothing of what was there is lost.
func TestSetAside(t *testing.T) {
	t.Parallel()
	l, ref := Layout{Dir: t.TempDir()}, task.Ref{Seq: 1, Attempt: 1}
	must(t, l.Prepare(ref))
	must(t, SetAside(l.LogPath(ref)))
	for _, text := range []string{"first", "second"} {
		for _, path := range []string{l.LogPath(ref), l.ResultPath(ref)} {
			must(t, os.WriteFile(path, []byte(text), 0o600))
		}
		must(t, SetAside(l.LogPath(ref)))
	}
	for path, want := range map[string]string{
		l.LogPath(ref) + ".former": "first", l.ResultPath(ref) + ".former": "first",
		l.LogPath(ref) + ".former-2": "second", l.ResultPath(ref) + ".former-2": "second",
	} {
		if got, err := os.ReadFile(path); string(got) != want {
			t.Errorf("%s: %q, %v; want %q", filepath.Base(path), got, err, want)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(l.LogPath(ref))); err != nil || len(left) != 4 {
		t.Errorf("%v, %v", left, err)
	}
}
