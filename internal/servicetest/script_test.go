package servicetest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestScript: what scripts/service-images says of what it cannot make, so that a
// test which needs that says it too.
func TestScript(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args, env []string
		want      string
	}{
		"an unknown server":      {args: []string{"mysql"}, want: "redis, prometheus and zookeeper"},
		"no packages of Debian":  {args: []string{"redis"}, env: []string{"PATH=" + onlyTheShell(t)}, want: "can only be made on Debian or Ubuntu"},
		"nowhere to keep things": {env: []string{"HOME=", "XDG_CACHE_HOME="}, want: "set HOME or XDG_CACHE_HOME"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), "../../scripts/service-images", tc.args...)
			cmd.Env = append(cmd.Environ(), "XDG_CACHE_HOME="+t.TempDir())
			cmd.Env = append(cmd.Env, tc.env...)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), tc.want) {
				t.Errorf("%v, %s", err, out)
			}
		})
	}
}

// onlyTheShell returns a PATH that has what finds out whether there is something to
// make, and nothing to make it with.
func onlyTheShell(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, program := range []string{"sh", "cat", "cut", "sha256sum", "uname"} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, program)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
