package process

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// openLogged opens the cgroups of a supervisor and returns what the log says.
func openLogged(p *place) (*cgroups, string) {
	var log bytes.Buffer
	c := openCgroups(filepath.Join(p.dir, "probe"), slog.New(slog.NewTextHandler(&log, nil)))
	return c, log.String()
}

// Either cgroups work in every respect, and leave nothing behind, or one line
// says what is missing.
func TestCgroupsAreProbed(t *testing.T) {
	p := newPlace(t)
	c, log := openLogged(p)
	if c == nil {
		if strings.Count(log, "\n") != 1 || !strings.Contains(log, "tasks run without cgroups") {
			t.Errorf("the log says:\n%s", log)
		}
		return
	}
	if log != "" && !strings.Contains(log, "without what this kernel lacks") {
		t.Errorf("the log says:\n%s", log)
	}
	entries, err := os.ReadDir(c.dir)
	must(t, err)
	for _, e := range entries {
		if e.IsDir() {
			t.Errorf("the probe left %s", e.Name())
		}
	}
	c.close()
	if _, err := os.Stat(c.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the set is still there: %v", err)
	}
}

// A directory in which nothing of it works, as a kernel or a container may have
// it, is told from a real one.
func TestProbeSeesWhatDoesNotWork(t *testing.T) {
	dir := t.TempDir()
	lock, err := lockDir(dir)
	must(t, err)
	c := &cgroups{dir: dir, lock: lock}
	defer c.close()
	if _, err := c.probe(); err == nil {
		t.Error("plain directories were taken for cgroups")
	}
	must(t, os.Mkdir(filepath.Join(dir, "3"), 0o700)) // what probe's two tries did not take
	for _, f := range []string{"cgroup.events", "cgroup.procs"} {
		must(t, os.WriteFile(filepath.Join(dir, "3", f), []byte("populated 0\n"), 0o600))
	}
	g, err := c.open(filepath.Join(dir, "3"))
	must(t, err)
	if _, err := startIn(g); err == nil {
		t.Error("a process was started in a plain directory")
	}
}

// Two supervisors never share a set.
func TestCgroupsHaveOneOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "set")
	c, err := makeCgroups(dir)
	must(t, err)
	if _, err := makeCgroups(dir); err == nil {
		t.Error("a second one has it")
	}
	must(t, c.lock.Close())
	again, err := makeCgroups(dir)
	must(t, err)
	must(t, again.lock.Close())
}
