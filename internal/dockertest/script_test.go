package dockertest_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
)

// script runs scripts/docker-testbed, and returns its exit code and what it says.
func script(t *testing.T, dir, verb string) (code int, said string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../scripts/docker-testbed", verb)
	cmd.Env = append(cmd.Environ(), "DSPY_TESTBED_DIR="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// TestScript: what people type. A second up does nothing, and down leaves nothing.
func TestScript(t *testing.T) {
	t.Parallel()
	dockertest.Shared(t, dockertest.Config{}) // skips where there can be none
	dir := filepath.Join(t.TempDir(), "bed")
	address := "unix://" + filepath.Join(dir, "docker.sock")
	for range 2 {
		if code, said := script(t, dir, "up"); code != 0 || said != "export DOCKER_HOST="+address+"\n" {
			t.Fatalf("up: %d, %s", code, said)
		}
	}
	if code, said := script(t, dir, "status"); code != 0 || !strings.Contains(said, address) {
		t.Errorf("status: %d, %s", code, said)
	}
	c := dockertest.Client(t, address)
	dockertest.Load(t, c, dockertest.Standin, dockertest.StandinImage(t))
	id := start(t, c, dockertest.Standin, "", "deaf", "hang")
	groups := cgroups(t, state(t, c, id).Pid)

	if code, said := script(t, dir, "down"); code != 0 || said != "" {
		t.Errorf("down: %d, %s", code, said)
	}
	if code, _ := script(t, dir, "status"); code != 1 {
		t.Errorf("status afterwards: %d", code)
	}
	for _, path := range append(groups, dir) {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left behind: %s (%v)", path, err)
		}
	}
}

// TestScriptKeepsOff: a folder of somebody else's is neither used nor removed.
func TestScriptKeepsOff(t *testing.T) {
	t.Parallel()
	dockertest.Shared(t, dockertest.Config{}) // skips where there can be none
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"up", "down"} {
		if code, said := script(t, dir, verb); code != 1 || !strings.Contains(said, "is not ours") {
			t.Errorf("%s: %d, %s", verb, code, said)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "file")); err != nil {
		t.Error(err)
	}
}

// cgroups returns the folders of a container's cgroups, and those above them that
// are of its engine.
func cgroups(t *testing.T, pid int) (paths []string) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		_, group, _ := strings.Cut(strings.TrimSpace(line), ":/")
		if group == "" {
			continue // nobody made one of this kind for it
		}
		for _, top := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			found, err := filepath.Glob(filepath.Join(top, group))
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range found {
				paths = append(paths, path, filepath.Dir(path))
			}
		}
	}
	if len(paths) == 0 {
		t.Fatalf("process %d has no cgroup:\n%s", pid, text)
	}
	return paths
}
