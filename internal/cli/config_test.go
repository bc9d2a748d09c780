package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// homely is an environment with a home of its own.
func homely(t *testing.T) (env Env, home string) {
	t.Helper()
	env, home = testEnv(t), t.TempDir()
	env.Environ = append(env.Environ, "HOME="+home)
	return env, home
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConfigInit(t *testing.T) {
	env, home := homely(t)
	path := filepath.Join(home, ".dspy-agent", "config.toml")
	expect(t, env, exitDone, "there is no configuration file ("+path+"), so the defaults hold", "", "config", "check")
	expect(t, env, exitDone, "wrote "+path, "", "config", "init")
	expect(t, env, exitDone, path+": no mistakes\n", "", "config", "check")
	expect(t, env, exitRefused, "", "is there already, and may have settings of yours; --force replaces it", "config", "init")
	write(t, path, "quux = 1\n")
	expect(t, env, exitDone, "wrote", "", "config", "init", "--force") // a broken one, too
	other := filepath.Join(env.Cwd, "other.toml")
	expect(t, env, exitDone, "wrote "+other, "", "config", "init", "--config", "other.toml")
	env.Environ = slices.DeleteFunc(env.Environ, func(kv string) bool { return strings.HasPrefix(kv, "HOME=") })
	expect(t, env, exitUsage, "", "name one with --config FILE", "config", "init")
}

func TestConfigShow(t *testing.T) {
	env, home := homely(t)
	path := filepath.Join(home, ".dspy-agent", "config.toml")
	write(t, path, "[capacity]\nmemory = \"12GiB\"\n[types.sweep]\ncommand = \"x\"\nenv = { API_TOKEN = \"hunter2\" }\n")
	out := expect(t, env, exitDone, "capacity.memory\t12GiB\t"+path+":2\n", "", "config", "show")
	for _, want := range []string{
		"KEY\tVALUE\tFROM\n", "workspace\t" + env.Cwd + "\tdefault\n", "config\t" + path + "\tdefault\n", "grpc_addr\t127.0.0.1:50052\tdefault\n",
		"classes.gpu.alias_of\tgpu_long\tdefault\n", "types.sweep.command\t[\"/bin/sh\", \"-c\", \"x\"]\t" + path + ":4\n", "types.sweep.env.API_TOKEN\t(hidden)\t" + path + ":5\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no line %q in\n%s", want, out)
		}
	}
	if out := expect(t, env, exitDone, "capacity.cpus\t0\tdefault\n", "", "config", "show", "capacity"); strings.Count(out, "\n") != 4 {
		t.Errorf("more than the table: %s", out)
	}
	expect(t, env, exitUsage, "", "did you mean capacity.memory?", "config", "show", "capacity.memry")
	expect(t, env, exitUsage, "", "did you mean capacity?", "config", "show", "capacit")
	expect(t, env, exitUsage, "", "lists", "config", "show", "nothing.like.it")

	var j jsonConfig
	out = expect(t, env, exitDone, "{", "", "config", "show", "--json", "capacity.memory")
	if err := json.Unmarshal([]byte(out), &j); err != nil || len(j.Settings) != 1 || !j.FileRead || j.File != path {
		t.Fatalf("%s: %v", out, err)
	}
	if got, want := j.Settings[0], (jsonSetting{Key: "capacity.memory", Value: float64(12 << 30), Source: "file", Name: path, Line: 2}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestBrokenConfig: a command that would act on half a configuration does
// nothing, and says everything that is wrong.
func TestBrokenConfig(t *testing.T) {
	env, home := homely(t)
	path := filepath.Join(home, ".dspy-agent", "config.toml")
	write(t, path, "quux = 1\n[capacity]\nnice = -1\n")
	for _, args := range []string{"ps", "status", "submit -- true", "config show", "start"} {
		expect(t, env, exitUsage, "", "2 mistakes in the configuration:\n  "+path+":1: there is no key quux", strings.Fields(args)...)
	}
	expect(t, env, exitUsage, path+":3: capacity.nice is -1; write a whole number from 0 to 19\n", "2 mistakes\n", "config", "check")
	out := expect(t, env, exitUsage, "{", "2 mistakes", "config", "check", "--json")
	var j jsonConfigCheck
	if err := json.Unmarshal([]byte(out), &j); err != nil || j.OK || len(j.Problems) != 2 || j.Problems[0].Line != 1 || j.Problems[1].Key != "capacity.nice" {
		t.Errorf("%s: %v", out, err)
	}
	expect(t, env, exitDone, "dspy-agent", "", "version")
	expect(t, env, exitDone, "cpu_short", "", "__complete", "--", "submit", "--class", "cpu_sh")
	expect(t, env, exitDone, "/dev/null: no mistakes", "", "--config", "/dev/null", "config", "check")
}

func TestConfigCheckFile(t *testing.T) {
	env, home := homely(t)
	write(t, filepath.Join(home, ".dspy-agent", "config.toml"), "quux = 1\n")
	good := filepath.Join(env.Cwd, "good.toml")
	write(t, good, "[capacity]\nnice = 3\n")
	env.Environ = append(env.Environ, "ORCHESTRATOR_GRPC_ADDR=x")
	expect(t, env, exitDone, good+": no mistakes\n", "", "config", "check", "good.toml") // it alone
	expect(t, env, exitUsage, "ORCHESTRATOR_GRPC_ADDR is \"x\"", "1 mistake\n", "config", "check", "--config", "good.toml")
	expect(t, env, exitUsage, "none.toml: there is no such file\n", "1 mistake\n", "config", "check", "none.toml")
}

// TestConfigOfServices: what is said about services is shown with its file, and checked as
// env-manager takes it.
func TestConfigOfServices(t *testing.T) {
	env, home := homely(t)
	path, own := filepath.Join(home, ".dspy-agent", "config.toml"), filepath.Join(home, "own.toml")
	write(t, path, "[services.redis]\nimage = \"redis:8\"\nports = [\"7000:6379\"]\n[services.kafka]\nrequired = true\n")
	write(t, own, "max_concurrent_starts = 2\n\n[[service_overrides]]\nname = \"redis\"\nports = []\nenvironment = [\"REDIS_PASSWORD=hunter2\", \"A=1\"]\n")
	env.Environ = append(env.Environ, "ENV_MANAGER_CONFIG="+own)
	expect(t, env, exitDone, path+": no mistakes\n"+own+": no mistakes\n", "", "config", "check")
	want := "KEY\tVALUE\tFROM\nservices.kafka.required\ttrue\t" + path + ":5\nservices.redis.image\tredis:8\t" + path + ":2\nservices.redis.ports\t[]\t" + own + ":5\n" +
		"services.redis.env.A\t1\t" + own + ":6\nservices.redis.env.REDIS_PASSWORD\t(hidden)\t" + own + ":6\n"
	if out := expect(t, env, exitDone, "KEY", "", "config", "show", "services"); out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	expect(t, env, exitDone, "env_manager.max_concurrent_starts\t2\t"+own+":1\n", "", "config", "show", "env_manager")

	write(t, own, "[[service_overrides]]\nname = \"redis\"\nhealth_check_url = \"x\"\n")
	expect(t, env, exitUsage, own+":3: services.redis.health_check_url: \"x\" is not the URL of a probe", "1 mistake\n", "config", "check")
	expect(t, env, exitDone, path+": no mistakes\n", "", "config", "check", path) // it alone
	expect(t, env, exitDone, "services.redis.health_check_url\tx\t", "", "config", "show", "services.redis")
	write(t, own, "quux = 1\n")
	expect(t, env, exitUsage, own+":1: there is no key quux", "1 mistake\n", "config", "check")
	_, out, _ := dspyAgent(t, env, "doctor")
	if want := "problem\tconfiguration\t" + own + ":1: there is no key quux"; !strings.Contains(out, want) || !strings.Contains(out, "workspace\t") {
		t.Errorf("doctor says\n%s", out)
	}
}

func TestConfigUsage(t *testing.T) {
	env, _ := homely(t)
	for args, want := range map[string]string{
		"config":                "one of show, init, check",
		"config shwo":           "did you mean show?",
		"config frobnicate":     "there are show, init, check",
		"config show a b":       `"b" is too much`,
		"config init a":         `"a" is too much`,
		"config show --force":   "--force goes with config init",
		"config init --json":    "no JSON",
		"--config none.toml ps": "flag --config names it",
		"--config":              "needs a value",
	} {
		expect(t, env, exitUsage, "", want, strings.Fields(args)...)
	}
}

func TestConfigCompletion(t *testing.T) {
	env, home := homely(t)
	write(t, filepath.Join(home, "c.toml"), "[classes.night]\n")
	expect(t, env, exitDone, "show\ninit\ncheck\n", "", "__complete", "--", "config", "")
	expect(t, env, exitDone, "capacity\ncapacity.cpus\ncapacity.memory\ncapacity.nice\n", "", "__complete", "--", "config", "show", "capa")
	expect(t, env, exitDone, "night\n", "", "__complete", "--", "--config", filepath.Join(home, "c.toml"), "submit", "--class", "ni")
	expect(t, env, exitDone, "", "", "__complete", "--", "config", "check", "")
}

// TestDoctorOnBrokenConfig: it says everything that is wrong, and looks at the rest.
func TestDoctorOnBrokenConfig(t *testing.T) {
	env, home := homely(t)
	path := filepath.Join(home, ".dspy-agent", "config.toml")
	write(t, path, "quux = 1\n[capacity]\nnice = -1\n")
	out := expect(t, env, exitFailed, "problem\tconfiguration\t"+path+":1: there is no key quux", "3 problems", "doctor") // and no orchestrator in PATH
	for _, want := range []string{"problem\tconfiguration\t" + path + ":3: capacity.nice is -1", "ok\tworkspace\t", "note\tdaemon\tnone runs for workspace " + env.Cwd + "\tdspy-agent start --workspace " + env.Cwd + "\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no line %q in\n%s", want, out)
		}
	}
	env.Environ = append(env.Environ, "ORCHESTRATOR_GRPC_ADDR=x") // no file takes that away
	if out := expect(t, env, exitFailed, "ORCHESTRATOR_GRPC_ADDR is", "3 problems", "doctor"); strings.Contains(out, "workspace\t") || !strings.Contains(out, "login\t") {
		t.Errorf("without any configuration it says\n%s", out)
	}
}

func TestDoctorOnVariables(t *testing.T) {
	env, _ := homely(t)
	env.Environ = append(env.Environ, "ORCHESTRATOR_GRPC_ADRR=x")
	_, out, _ := dspyAgent(t, env, "doctor")
	for _, want := range []string{"ok\tconfiguration\tno configuration file; the defaults hold", "warning\tconfiguration\tthe variable ORCHESTRATOR_GRPC_ADRR is set, and nothing reads it\tif ORCHESTRATOR_GRPC_ADDR was meant, set that\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no line %q in\n%s", want, out)
		}
	}
}
