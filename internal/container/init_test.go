package container

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// An init that could not be copied once is copied later, and those of earlier releases go when
// nobody has used them for long.
func TestInitIsKept(t *testing.T) {
	t.Parallel()
	s := newStage(t, task.Assigned, task.Spec{})
	dir := s.b.opts.TasksDir
	must(t, os.Rename(s.b.opts.Init, s.b.opts.Init+".away"))
	if got := s.b.initFile(); got != "" {
		t.Fatalf("%q is there", got)
	}
	must(t, os.Rename(s.b.opts.Init+".away", s.b.opts.Init))
	for name, age := range map[string]time.Duration{
		"init-old": oldInit, "init-recent": oldInit / 2, "init-1.new": oldCopy, "init-2.new": oldCopy / 2,
	} {
		path, at := filepath.Join(dir, name), time.Now().Add(-age)
		must(t, os.WriteFile(path, nil, 0o600))
		must(t, os.Chtimes(path, at, at))
	}
	kept := s.b.initFile()
	want := []string{filepath.Join(dir, "init-2.new"), kept, filepath.Join(dir, "init-recent")}
	slices.Sort(want)
	if left, err := filepath.Glob(filepath.Join(dir, "init-*")); err != nil || kept == "" || !slices.Equal(left, want) {
		t.Errorf("%v, %v; want %v", left, err, want)
	}
	// It is in use as long as daemons come.
	long := time.Now().Add(-2 * oldInit)
	must(t, os.Chtimes(kept, long, long))
	if again, err := keepInit(s.b.opts.Init, dir); err != nil || again != kept {
		t.Errorf("%s, %v", again, err)
	}
	if st, err := os.Stat(kept); err != nil || time.Since(st.ModTime()) > oldCopy {
		t.Errorf("it is taken for old: %v", err)
	}
}
