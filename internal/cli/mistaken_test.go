package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMistakenConfig: a slip in the file keeps nobody from what runs; what makes or fills a
// queue refuses, and so does everything where no daemon is found.
func TestMistakenConfig(t *testing.T) {
	f, env := startFake(t)
	home := t.TempDir()
	env.Environ = append(env.Environ, "HOME="+home)
	expect(t, env, exitDone, "x\n", "", "submit", "--id", "x", "--", "sleep")
	path := filepath.Join(home, ".dspy-agent", "config.toml")
	write(t, path, "quux = 1\n[classes.tiny]\nparallel = 1\nlimt = 2\n")
	for _, args := range []string{"ps", "ps --class tiny", "status", "show x", "why x", "wait --timeout 0 x", "cancel x"} {
		_, _, errs := dspyAgent(t, env, strings.Fields(args)...)
		if !strings.Contains(errs, "warning: "+path+":1: there is no key quux") || !strings.Contains(errs, "(and 1 mistake more)") || strings.Count(errs, "warning: ") != 1 {
			t.Errorf("%s: %q", args, errs)
		}
	}
	if !f.find("x").GetCancelAsked() && f.find("x").GetState() != "cancelled" {
		t.Errorf("x is %s", f.find("x").GetState())
	}
	for _, args := range []string{"submit -- true", "start", "drain", "queue verify", "config show"} {
		expect(t, env, exitUsage, "", "nothing was done; dspy-agent config check says whether it is good again\n", strings.Fields(args)...)
	}
	// What was typed, or exported, is not the file's.
	expect(t, env, exitUsage, "", "there is no such file", "--config", "/nowhere", "ps")
	f.stop()
	expect(t, env, exitUsage, "", "2 mistakes in the configuration", "ps")
	expect(t, env, exitUsage, "", "2 mistakes in the configuration", "stop")
}

// TestNewerConfig: what a daemon does not know yet is told as that, not as a slip.
func TestNewerConfig(t *testing.T) {
	f, env := startFake(t)
	home := t.TempDir()
	env.Environ = append(env.Environ, "HOME="+home)
	path := filepath.Join(home, ".dspy-agent", "config.toml")
	write(t, path, "[classes.tiny]\n")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f.config, f.configAt = path, info.ModTime().UnixNano()
	f.refuse["x"] = "unknown class"
	const newer = " is newer than the daemon, which knows what it said before; stop and start it"
	for _, tc := range []struct {
		at   int64
		want bool
	}{{f.configAt, false}, {f.configAt - int64(time.Hour), true}, {f.configAt + int64(time.Hour), true}, {0, true}} {
		f.configAt = tc.at
		_, out, _ := dspyAgent(t, env, "status")
		_, _, errs := dspyAgent(t, env, "submit", "--class", "tiny", "--id", "x", "--", "true")
		_, _, again := dspyAgent(t, env, "start")
		for name, said := range map[string]string{"status": out, "submit": errs, "start": again} {
			if strings.Contains(said, path+newer) != tc.want {
				t.Errorf("at %d, %s says %q", tc.at, name, said)
			}
		}
	}
	f.configAt = 0
	write(t, path, "# a file that config init has written\n\n[capacity]\n  # nice = 1\n")
	if _, out, _ := dspyAgent(t, env, "status"); strings.Contains(out, newer) {
		t.Errorf("of a file that says nothing, status says %q", out)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	f.configAt = 5
	expect(t, env, exitDone, path+" is gone", "", "status")
}

// TestStatusAll lists daemons by their sockets, and passes over what is stale or something
// else.
func TestStatusAll(t *testing.T) {
	f, env := startFake(t)
	expect(t, env, exitDone, "x\n", "", "submit", "--id", "x", "--", "sleep")
	dir := filepath.Dir(f.path)
	write(t, filepath.Join(dir, "0123456789abcdef.sock"), "")
	write(t, filepath.Join(dir, "supervisor.sock"), "")
	env.Cwd = t.TempDir()
	out := expect(t, env, exitDone, f.workspace+"\t", "", "status", "--all")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 2 || !strings.HasSuffix(lines[1], "\t0\t1") {
		t.Errorf("got %q", out)
	}
	expect(t, env, exitDone, `"workspace":"`+f.workspace+`"`, "", "status", "--all", "--json")
	f.stop()
	expect(t, env, exitDone, "no daemon of yours runs on this host\n", "", "status", "--all")
	expect(t, env, exitDone, "[]\n", "", "status", "--all", "--json")
}
