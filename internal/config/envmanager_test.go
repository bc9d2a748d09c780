package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// TestEnvManagerFile: every key of the file arrives, with the line that it came from.
func TestEnvManagerFile(t *testing.T) {
	t.Parallel()
	c, path, err := world{file: "docker_host = \"unix:///a\"\n", own: `grpc_addr = "127.0.0.1:1"
metrics_http_addr = "127.0.0.1:2"
docker_host = "tcp://h:3"
max_concurrent_starts = 0
health_check_timeout_secs = 90
health_check_max_attempts = 7
verbose_logging = true

[[service_overrides]]
name = "redis"
required = false
health_check_url = "redis://:6379"
environment = ["A=1", "B=x=y"]
image = "redis:8"
ports = ["7000:6379", "0.0.0.0:7001:6380/udp", "[::1]:0:6381"]
volumes = ["data:/data:ro", "./conf:/conf"]
command = "redis-server --save '' \"a b\" c\\ d"
depends_on = ["kafka"]

[[service_overrides]]
name = "ollama"
enabled = false
[service_overrides.env]
C = "3"
`}.load(t)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(filepath.Dir(filepath.Dir(path)), "own.toml")
	want := config.EnvManager{
		GRPCAddr: "127.0.0.1:1", HTTPAddr: "127.0.0.1:2", DockerHost: "tcp://h:3", HealthTimeout: 90 * time.Second, HealthAttempts: 7,
		Verbose: true, Network: "dspy-agent", File: own,
	}
	if !reflect.DeepEqual(c.EnvManager, want) {
		t.Errorf("got  %+v\nwant %+v", c.EnvManager, want)
	}
	if c.DockerHost != "unix:///a" || c.EnvManagerDockerHost() != "tcp://h:3" {
		t.Errorf("docker_host of env-manager's own file is its own: %s, %s", c.DockerHost, c.EnvManagerDockerHost())
	}
	services := map[string]config.Service{
		"redis": {
			Name: "redis", Enabled: true, HealthCheckURL: "redis://:6379", Image: "redis:8", Env: []string{"A=1", "B=x=y"}, Needs: []string{"kafka"},
			Command: []string{"redis-server", "--save", "", "a b", "c d"},
			Ports:   []config.ServicePort{{Host: 7000, Container: 6379}, {Address: "0.0.0.0", Host: 7001, Container: 6380, UDP: true}, {Address: "::1", Container: 6381}},
			Volumes: []config.ServiceVolume{{Name: "data", Target: "/data", ReadOnly: true}, {Source: "/w/conf", Target: "/conf"}},
		},
		"ollama": {Name: "ollama", Env: []string{"C=3"}},
	}
	if !reflect.DeepEqual(c.Services, services) {
		t.Errorf("got  %+v\nwant %+v", c.Services, services)
	}
	for key, line := range map[string]int{
		"env_manager.grpc_addr": 1, "env_manager.health_timeout": 5, "services.redis": 10, "services.redis.required": 11, "services.redis.env.B": 13,
		"services.ollama.enabled": 22, "services.ollama.env.C": 24, "env_manager_addr": 1,
	} {
		if from := c.Source(key); from != (config.Source{Kind: config.FromFile, Name: own, Line: line}) {
			t.Errorf("%s is from %s; want line %d", key, from, line)
		}
	}
	if c.IsGiven("services.ollama.required") || !c.IsGiven("services.redis.required") {
		t.Error("what was given cannot be told from what was not")
	}
}

// TestOverridesInOneLine: TOML's other forms of the list mean the same.
func TestOverridesInOneLine(t *testing.T) {
	t.Parallel()
	for _, own := range []string{
		"service_overrides = [{name = \"redis\", env = {A = \"1\"}}, {name = \"b\", image = \"i\"}]",
		"[[service_overrides]]\nname = \"redis\"\nenv.A = \"1\"\n[[service_overrides]]\nimage = \"i\"\nname = \"b\"",
		"[[service_overrides]]\nname = \"redis\"\n[service_overrides.env]\nA = \"1\"\n[[service_overrides]]\nimage = \"i\"\nname = \"b\"",
	} {
		c, _, err := world{own: own}.load(t)
		if err != nil || c.Services["redis"].Env[0] != "A=1" || c.Services["b"].Image != "i" {
			t.Errorf("%q: %+v, %v", own, c.Services, err)
		}
	}
}

// TestEnvManagerFileMistakes has the kinds of mistakes that are only there, and some that
// are everywhere, with the exact words.
func TestEnvManagerFileMistakes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ own, want string }{
		{`grcp_addr = ":1"`, `1: there is no key grcp_addr; did you mean grpc_addr?`},
		{`http_addr = ":1"`, `1: there is no key http_addr; this file has grpc_addr, metrics_http_addr, docker_host, max_concurrent_starts, health_check_timeout_secs, health_check_max_attempts, verbose_logging, service_overrides`},
		{"\nhealth_check_timeout_secs = \"60\"", `2: health_check_timeout_secs is "60"; write a whole number from 1 to 86400, of seconds`},
		{`max_concurrent_starts = -1`, `1: max_concurrent_starts is -1; write a whole number from 0 to 1000`},
		{`verbose_logging = 1`, `1: verbose_logging is 1; write true or false`},
		{`grpc_addr = "x"`, `1: grpc_addr is "x"; ` + addresses},
		{"[services.redis]\nimage = \"x\"\nports = 3", `1: there is no table [services.redis] in this file; what is said about services stands in [[service_overrides]], which has name, enabled, required, adopt, image, command, entrypoint, ports, volumes, depends_on, user, host_network, health_check_url, start_timeout, stop_timeout, memory, cpus, environment, env`},
		{"[service_overrides]\nname = \"x\"", `1: service_overrides is a list of tables: write [[service_overrides]], and its keys below`},
		{"service_overrides = 3", `1: service_overrides is a list of tables: write [[service_overrides]], and its keys below`},
		{"service_overrides = [3]", `1: service_overrides is a list of tables: write [[service_overrides]], and its keys below`},
		{"[[service_overide]]\nname = \"x\"", `1: [[service_overide]] is a list of tables, which no setting is; write [service_overide]`},
		{"[[service_overrides]]\nimage = \"x\"", `1: [[service_overrides]] does not say which service is meant; add name = "redis", say`},
		{"[[service_overrides]]\nname = 3\nimage = \"x\"", `2: service_overrides.name is 3; write the name of a service, in quotes`},
		{"[[service_overrides]]\nname = \"A\"\nimage = 3", `2: service "A": the name of a service has small letters, digits, _ . and - only, at most 63, and begins with a letter or digit`},
		{"[[service_overrides]]\nname = \"a\"\n[[service_overrides]]\nname = \"a\"", `4: there are two [[service_overrides]] for "a", the other in line 2; make one of them`},
		{"[[service_overrides]]\nname = \"a\"\nname = \"b\"", `3: service_overrides.name is given twice, in line 2 too; keep one of them`},
		{"[[service_overrides]]\nname = \"a\"\nimgae = \"b\"", `3: there is no key service_overrides.imgae; did you mean service_overrides.image?`},
		{"[[service_overrides]]\nname = \"a\"\nrequired = \"yes\"", `3: service_overrides.required is "yes"; write true or false`},
		{"[[service_overrides]]\nname = \"a\"\nenvironment = [\"A=1\", \"A=2\"]", `3: service_overrides.environment: the variable "A" of service a is given twice, in line 3 too; keep one of them`},
		{"[[service_overrides]]\nname = \"a\"\n[service_overrides.evn]\nA = \"1\"", `4: there is no key service_overrides.evn; did you mean service_overrides.env?`},
		{"[[service_overrides]]\nname = \"a\"\n[[service_overrides.env]]\nA = \"1\"", `3: [[service_overrides.env]] is a list of tables, which no setting is; write [services.NAME]`},
		{"[[service_overrides]]\nname = \"a\"\nimage.x = 1", `3: there is no key service_overrides.image.x, since service_overrides.image is no table`},
		{"[[service_overrides]]\nname = \"a\"\n[service_overrides.env.b]\nc = 1", `4: there is no key service_overrides.env.b.c, since service_overrides.env is no table`},
		{"service_overrides.name = 1\nservice_overrides.x = 1", `1: service_overrides is a list of tables: write [[service_overrides]], and its keys below`},
		{"grpc_addr = x", `1: this is not TOML: unexpected character U+0078 'x' at start of value` + notTOML},
	} {
		_, path, err := world{own: tc.own}.load(t)
		if want := filepath.Join(filepath.Dir(filepath.Dir(path)), "own.toml") + ":" + tc.want; err == nil || err.Error() != want {
			t.Errorf("%q\n got  %v\n want %s", tc.own, err, want)
		}
	}
}

// TestEnvManagerFilePlace: who names the file, and what becomes of one that is not there or
// that somebody else can write.
func TestEnvManagerFilePlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"named.toml": "max_concurrent_starts = 1", "variable.toml": "max_concurrent_starts = 2", "main.toml": "env_manager.config = \"named.toml\"\nenv_manager.max_concurrent_starts = 3"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "open.toml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "open.toml"), 0o622); err != nil {
		t.Fatal(err)
	}
	load := func(variable string) (config.Config, error) {
		return config.Load(config.Given{Cwd: dir, ConfigFlag: "main.toml", Lookup: func(k string) string { return map[string]string{"ENV_MANAGER_CONFIG": variable}[k] }})
	}
	for variable, want := range map[string]int{"": 1, "variable.toml": 2, dir + "/variable.toml": 2, os.DevNull: 3} {
		if c, err := load(variable); err != nil || c.EnvManager.MaxStarts != want {
			t.Errorf("%q: %d, %v; want %d", variable, c.EnvManager.MaxStarts, err, want)
		}
	}
	for variable, want := range map[string]string{
		"none.toml": dir + "/none.toml: there is no such file, and environment ENV_MANAGER_CONFIG names it",
		"open.toml": dir + "/open.toml: the file can be written by others (mode 0622), and it says which programs run as you: chmod go-w it, after a look at what it says",
	} {
		if _, err := load(variable); err == nil || err.Error() != want {
			t.Errorf("%q: %v; want %s", variable, err, want)
		}
	}
}

// TestEnvManagerAddr: env-manager is called where it listens, unless another place is named.
func TestEnvManagerAddr(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		w            world
		dial, listen string
	}{
		{world{}, "127.0.0.1:50100", "127.0.0.1:50100"},
		{world{file: `env_manager.grpc_addr = ":1"`}, ":1", ":1"},
		{world{file: `env_manager.grpc_addr = ":1"`, own: `grpc_addr = ":2"`}, ":2", ":2"},
		{world{own: `grpc_addr = ":2"`, env: map[string]string{"ENV_MANAGER_GRPC_ADDR": ":3"}}, ":3", ":3"},
		{world{own: `grpc_addr = ":2"`, env: map[string]string{"ENV_MANAGER_ADDR": ":4", "ENV_MANAGER_GRPC_ADDR": ":3"}}, ":4", ":3"},
		{world{file: "env_manager_addr = \":5\"\nenv_manager.grpc_addr = \":1\""}, ":5", ":1"},
		{world{file: `env_manager.grpc_addr = "none"`}, "", ""},
	} {
		c, _, err := tc.w.load(t)
		if err != nil || c.EnvManagerAddr != tc.dial || c.EnvManager.GRPCAddr != tc.listen {
			t.Errorf("%+v: dial %q, listen %q, %v", tc.w, c.EnvManagerAddr, c.EnvManager.GRPCAddr, err)
		}
	}
}

// TestEnvManagerVariables: numbers and truths of the environment, where all is text.
func TestEnvManagerVariables(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text, key, want string
	}{
		{"ENV_MANAGER_HEALTH_TIMEOUT", "90", "env_manager.health_timeout", "1m30s"},
		{"ENV_MANAGER_HEALTH_TIMEOUT", "2m", "env_manager.health_timeout", "2m"},
		{"ENV_MANAGER_MAX_CONCURRENT", "0", "env_manager.max_concurrent_starts", "0"},
		{"ENV_MANAGER_VERBOSE", "1", "env_manager.verbose", "true"},
		{"ENV_MANAGER_VERBOSE", "True", "env_manager.verbose", "true"},
		{"ENV_MANAGER_VERBOSE", "false", "env_manager.verbose", "false"},
	} {
		c, _, err := world{env: map[string]string{tc.name: tc.text}}.load(t)
		if err != nil {
			t.Error(err)
			continue
		}
		if v := find(t, c, tc.key); v.Text() != tc.want || v.Source.Name != tc.name {
			t.Errorf("%s=%s: %s is %s from %s", tc.name, tc.text, tc.key, v.Text(), v.Source)
		}
	}
	for name, want := range map[string]string{
		"ENV_MANAGER_HEALTH_TIMEOUT": `ENV_MANAGER_HEALTH_TIMEOUT is "soon"; write a duration with its unit, such as "90s" or "2m", from "1s" to "24h"`,
		"ENV_MANAGER_MAX_CONCURRENT": `ENV_MANAGER_MAX_CONCURRENT is "soon"; write a whole number from 0 to 1000`,
		"ENV_MANAGER_VERBOSE":        `ENV_MANAGER_VERBOSE is "soon"; write true or false`,
	} {
		if _, _, err := (world{env: map[string]string{name: "soon"}}).load(t); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func find(t *testing.T, c config.Config, key string) config.Value {
	t.Helper()
	i := slices.IndexFunc(c.Values(), func(v config.Value) bool { return v.Key == key })
	if i < 0 {
		t.Fatalf("there is no value %s", key)
	}
	return c.Values()[i]
}

// TestOrderOfSources: of all the sources of a setting that say something, the strongest
// counts: flag, environment, the file of ENV_MANAGER_CONFIG, the configuration file,
// default. Whichever settings are given in whichever of them.
func TestOrderOfSources(t *testing.T) {
	t.Parallel()
	theirs := map[string]string{}
	for _, k := range config.EnvManagerFileKeys() {
		theirs[k.Key] = k.Name
	}
	candidates := slices.DeleteFunc(config.Settings(), func(s config.Setting) bool {
		return s.Outside != "" || strings.Contains(s.Key, "NAME") || texts(s) == nil
	})
	rapid.Check(t, func(rt *rapid.T) {
		w := world{env: map[string]string{}, flags: map[string]string{}}
		type expected struct {
			text string
			kind config.SourceKind
			own  bool
		}
		want := map[string]expected{}
		for _, s := range candidates {
			mask := rapid.IntRange(0, 15).Draw(rt, s.Key)
			all := texts(s)
			if mask&1 != 0 {
				w.file += s.Key + " = " + all[0] + "\n"
				want[s.Key] = expected{all[0], config.FromFile, false}
			}
			if name := theirs[s.Key]; name != "" && mask&2 != 0 {
				text := all[1]
				if name == "health_check_timeout_secs" {
					text = "120"
				}
				w.own += name + " = " + text + "\n"
				want[s.Key] = expected{all[1], config.FromFile, true}
			}
			if len(s.Env) == 1 && mask&4 != 0 && s.Key != "docker_host" { // of a variable of two settings, the other has the other value
				w.env[s.Env[0]] = strings.Trim(all[2], `"`)
			}
			if s.Flag != "" && mask&8 != 0 {
				w.flags[s.Flag] = strings.Trim(all[3], `"`)
				want[s.Key] = expected{all[3], config.FromFlag, false}
			}
		}
		for _, s := range candidates {
			for _, name := range s.Env {
				if v := w.env[name]; v != "" && want[s.Key].kind != config.FromFlag {
					text := v
					if texts(s)[0][0] == '"' {
						text = `"` + v + `"`
					}
					want[s.Key] = expected{text, config.FromEnvironment, false}
					break
				}
			}
		}
		c, path, err := w.load(t)
		if err != nil {
			rt.Fatalf("%+v: %v", w, err)
		}
		for _, s := range candidates {
			v, e := find(t, c, s.Key), want[s.Key]
			if e.text == "" {
				e.text = s.Default
				if s.Key == "env_manager_addr" { // it follows
					follows := find(t, c, "env_manager.grpc_addr")
					e.text, e.kind, e.own = follows.Literal, follows.Source.Kind, want["env_manager.grpc_addr"].own
				}
			}
			if s.Type == "path" {
				continue // shown absolute, and their sources are those of TestEveryKey
			}
			own := v.Source.Kind == config.FromFile && v.Source.Name != path
			if v.Literal != e.text || v.Source.Kind != e.kind || own != e.own {
				rt.Fatalf("%s is %s from %s; want %s, %s, own file %v", s.Key, v.Literal, v.Source, e.text, e.kind, e.own)
			}
		}
	})
}

// texts returns four values of a setting that differ, where its type has so many.
func texts(s config.Setting) []string {
	var out []string
	for i := range 4 {
		switch s.Type {
		case "address":
			out = append(out, fmt.Sprintf(`"127.0.0.1:%d"`, 6000+i))
		case "whole number":
			out = append(out, fmt.Sprint(1+i))
		case "duration":
			out = append(out, fmt.Sprintf(`"%dm"`, 1+i))
		case "true or false":
			out = append(out, fmt.Sprint(i%2 == 0))
		}
	}
	if strings.HasSuffix(s.Key, "docker_host") {
		for i := range 4 {
			out = append(out, fmt.Sprintf(`"tcp://h:%d"`, i))
		}
	}
	return out
}
