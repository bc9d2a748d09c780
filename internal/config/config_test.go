package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// world is what a configuration is loaded from.
type world struct {
	file  string // text of the default file; "" = there is none
	own   string // text of the file of ENV_MANAGER_CONFIG; "" = there is none
	env   map[string]string
	flags map[string]string
}

func (w world) load(t *testing.T) (config.Config, string, error) {
	t.Helper()
	home := t.TempDir()
	path := config.DefaultFile(home)
	if w.file != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(w.file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	own := filepath.Join(home, "own.toml")
	if w.own != "" {
		if err := os.WriteFile(own, []byte(w.own), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Load(config.Given{Cwd: "/", Found: "/w", Flags: w.flags, Lookup: func(k string) string {
		if k == "HOME" {
			return home
		}
		if k == "ENV_MANAGER_CONFIG" && w.own != "" {
			return own
		}
		return w.env[k]
	}})
	return c, path, err
}

// load loads a file that is good.
func load(t *testing.T, file string) config.Config {
	t.Helper()
	c, _, err := world{file: file}.load(t)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLoad(t *testing.T) {
	t.Parallel()
	ws := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(ws, link); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"ENV_QUEUE_DIR": "q", "XDG_RUNTIME_DIR": "/run/x"}
	c, err := config.Load(config.Given{WorkspaceFlag: link, Cwd: "/", Lookup: func(k string) string { return env[k] }})
	if err != nil {
		t.Fatal(err)
	}
	if c.Workspace != ws || c.QueueDir != filepath.Join(ws, "q") || c.RuntimeDir != "/run/x" {
		t.Errorf("got %+v; a link is the folder itself, and ENV_QUEUE_DIR is resolved against it", c)
	}
	env["XDG_RUNTIME_DIR"] = "here"
	_, err = config.Load(config.Given{Cwd: "/", Lookup: func(k string) string { return env[k] }})
	if want := `XDG_RUNTIME_DIR is "here"; write an absolute path`; task.CodeOf(err) != task.CodeInvalid || err.Error() != want {
		t.Errorf("a relative XDG_RUNTIME_DIR: %v; want %s", err, want)
	}
}

func TestFoundWorkspace(t *testing.T) {
	t.Parallel()
	above := t.TempDir()
	for _, tc := range []struct {
		given config.Given
		want  string
		kind  config.SourceKind
	}{
		{config.Given{Cwd: above}, above, config.FromDefault},
		{config.Given{Cwd: "/", Found: above}, above, config.FromDefault},
		{config.Given{Cwd: "/", Found: "/usr", WorkspaceFlag: above}, above, config.FromFlag},
	} {
		c, err := config.Load(tc.given)
		if err != nil || c.Workspace != tc.want || c.Source("workspace").Kind != tc.kind {
			t.Errorf("%+v: %s from %s, %v", tc.given, c.Workspace, c.Source("workspace"), err)
		}
	}
	if _, err := config.Load(config.Given{Cwd: "x"}); task.CodeOf(err) != task.CodeInvalid {
		t.Errorf("no absolute folder: %v", err)
	}
}

// TestDialAndListen: the file moves the daemon's door, and the variable moves
// the clients along; without the variable they use the socket.
func TestDialAndListen(t *testing.T) {
	t.Parallel()
	env := map[string]string{"ORCHESTRATOR_GRPC_ADDR": ":6001"}
	flags := map[string]string{"grpc-addr": "127.0.0.1:0"}
	for _, tc := range []struct {
		w            world
		dial, listen string
		from         config.SourceKind
	}{
		{world{}, "", "127.0.0.1:50052", config.FromDefault},
		{world{file: `grpc_addr = "127.0.0.1:6000"`}, "", "127.0.0.1:6000", config.FromFile},
		{world{file: `grpc_addr = "127.0.0.1:6000"`, env: env}, ":6001", ":6001", config.FromEnvironment},
		{world{file: `grpc_addr = "127.0.0.1:6000"`, env: env, flags: flags}, ":6001", "127.0.0.1:0", config.FromFlag},
		{world{file: `grpc_addr = "none"`}, "", "", config.FromFile},
	} {
		c, _, err := tc.w.load(t)
		if err != nil || c.GRPCAddr != tc.dial || c.GRPCListen != tc.listen || c.Source("grpc_addr").Kind != tc.from {
			t.Errorf("%+v: dial %q, listen %q from %s, %v", tc.w, c.GRPCAddr, c.GRPCListen, c.Source("grpc_addr"), err)
		}
	}
}

// TestWorkspaceWinsOverTheAddress: who names a workspace calls its daemon, and that listens
// where the variable says all the same.
func TestWorkspaceWinsOverTheAddress(t *testing.T) {
	t.Parallel()
	c, err := config.Load(config.Given{WorkspaceFlag: t.TempDir(), Lookup: func(name string) string {
		return map[string]string{"ORCHESTRATOR_GRPC_ADDR": ":6001"}[name]
	}})
	if err != nil || c.GRPCAddr != "" || c.Source("dial_addr").Kind != config.FromDefault || c.GRPCListen != ":6001" {
		t.Errorf("dial %q from %s, listen %q, %v", c.GRPCAddr, c.Source("dial_addr"), c.GRPCListen, err)
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	w := world{file: "log_dir = \"l\"\nhttp_addr = \":1\"\n\n[capacity]\nnice = 3\n", env: map[string]string{"ORCHESTRATOR_HTTP_ADDR": ":2", "ENV_MANAGER_GRPC_ADDR": ":3"}}
	c, path, err := w.load(t)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"log_dir": path + ":1", "http_addr": "environment ORCHESTRATOR_HTTP_ADDR", "capacity.nice": path + ":5", "capacity.cpus": "default",
		"workspace": "default", "config": "default", "env_manager_addr": "environment ENV_MANAGER_GRPC_ADDR", "classes.cpu_short.limit": "default",
	} {
		if got := c.Source(key).String(); got != want {
			t.Errorf("%s is from %q, want %q", key, got, want)
		}
	}
	if c.LogDir != "/w/l" || c.HTTPListen != ":2" || c.EnvManagerAddr != ":3" || !c.FileRead() || c.File != path {
		t.Errorf("got %+v", c)
	}
}

// TestEveryKey sets every setting in every way that it can be set, to its
// example, and looks whether that arrives and says where it came from.
func TestEveryKey(t *testing.T) {
	t.Parallel()
	for _, s := range config.Settings() {
		if s.Meaning == "" || s.Example == "" || s.Type == "" || s.Default == s.Example {
			t.Errorf("%s is not documented well enough: %+v", s.Key, s)
		}
		text := strings.Trim(s.Example, `"`)
		if s.Key == "config" || s.Key == "workspace" || s.Key == "env_manager.config" {
			continue // what leads to the rest; see TestConfigFile, TestLoad, TestEnvManagerFile
		}
		if s.Outside == "" {
			checkSet(t, world{file: fileWith(s)}, s, config.FromFile)
		} else {
			_, _, err := world{file: fileWith(s)}.load(t)
			if task.CodeOf(err) != task.CodeInvalid {
				t.Errorf("%s in the file: %v", s.Key, err)
			}
		}
		for _, name := range s.Env {
			checkSet(t, world{env: map[string]string{name: text}}, s, config.FromEnvironment)
		}
		if s.Flag != "" {
			checkSet(t, world{flags: map[string]string{s.Flag: text}}, s, config.FromFlag)
		}
	}
}

// fileWith is a file that sets the example of a setting; what it needs to be
// right comes first.
func fileWith(s config.Setting) string {
	switch s.Key {
	case "access.tls_cert":
		return "access.tls_key = \"k\"\n" + s.Key + " = " + s.Example
	case "access.tls_key":
		return "access.tls_cert = \"c\"\n" + s.Key + " = " + s.Example
	case "classes.NAME.enforce":
		return "classes.name.limit = \"1m\"\nclasses.name.enforce = " + s.Example
	case "types.NAME.command":
		return s.Key + " = " + s.Example
	}
	switch {
	case len(s.Key) > 8 && s.Key[:8] == "classes.":
		return "\nclasses.name." + s.Key[13:] + " = " + s.Example
	case len(s.Key) > 6 && s.Key[:6] == "types.":
		return "types.NAME.command = \"x\"\n" + s.Key + " = " + s.Example
	case strings.HasPrefix(s.Key, "services."):
		return strings.Replace(s.Key, "NAME", "name", 1) + " = " + s.Example
	}
	return s.Key + " = " + s.Example
}

func checkSet(t *testing.T, w world, s config.Setting, kind config.SourceKind) {
	t.Helper()
	c, path, err := w.load(t)
	if err != nil {
		t.Errorf("%s = %s: %v", s.Key, s.Example, err)
		return
	}
	key := s.Key
	switch {
	case key == "types.NAME.env":
		key = "types.NAME.env.OMP_NUM_THREADS"
	case key == "services.NAME.env":
		key = "services.name.env.TZ"
	case key == "services.NAME.environment":
		key = "services.name.env.ALLOW_EMPTY_PASSWORD"
		s.Example = `"(hidden)"`
	case len(key) > 8 && key[:8] == "classes.", strings.HasPrefix(key, "services."):
		key = strings.Replace(key, "NAME", "name", 1)
	}
	i := slices.IndexFunc(c.Values(), func(v config.Value) bool { return v.Key == key })
	if i < 0 {
		t.Errorf("%s is not among the values", key)
		return
	}
	v := c.Values()[i]
	want := s.Example
	switch {
	case key == "types.NAME.env.OMP_NUM_THREADS":
		want = `"2"`
	case key == "services.name.env.TZ":
		want = `"UTC"`
	case s.Type == "path" && len(want) > 2 && want[1] == '~':
		want = `"` + filepath.Join(filepath.Dir(filepath.Dir(path)), want[3:len(want)-1]) + `"`
	}
	if v.Literal != want || v.Source.Kind != kind {
		t.Errorf("%s is %s from %s; want %s from the %s", key, v.Literal, v.Source, want, kind)
	}
}

func TestConfigFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"flag.toml": "log_dir = \"flag\"", "env.toml": "log_dir = \"env\"", ".dspy-agent/config.toml": "log_dir = \"home\""} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		flag, env, home, log, from string
		args                       []string
	}{
		{"", "", "", "logs", "default", nil},
		{"", "", dir, "home", "default", nil},
		{"", "env.toml", dir, "env", "environment DSPY_AGENT_CONFIG", nil},
		{"", dir + "/env.toml", dir, "env", "environment DSPY_AGENT_CONFIG", nil},
		{"flag.toml", "env.toml", dir, "flag", "flag --config", []string{"--config", dir + "/flag.toml"}},
		{os.DevNull, "env.toml", dir, "logs", "flag --config", []string{"--config", os.DevNull}},
	} {
		env := map[string]string{"HOME": tc.home, "DSPY_AGENT_CONFIG": tc.env}
		given := config.Given{ConfigFlag: tc.flag, Cwd: dir, Lookup: func(k string) string { return env[k] }}
		c, err := config.Load(given)
		if err != nil || c.LogDir != filepath.Join(dir, tc.log) || c.Source("config").String() != tc.from {
			t.Errorf("%+v: %s from %s, %v", tc, c.LogDir, c.Source("config"), err)
		}
		if args := slices.Concat([]string{"--workspace", dir}, tc.args); !slices.Equal(c.Args(), args) {
			t.Errorf("%+v: args %q", tc, c.Args())
		}
		if path, err := config.FileFor(given); path != c.File || (err != nil) != (c.File == "") {
			t.Errorf("%+v: the file is %s, %v", tc, path, err)
		}
	}
	_, err := config.Load(config.Given{ConfigFlag: "none.toml", Cwd: dir})
	if want := dir + "/none.toml: there is no such file, and flag --config names it; dspy-agent --config " + dir + "/none.toml config init writes it"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestClasses(t *testing.T) {
	t.Parallel()
	c := load(t, `
[classes.cpu_short]
parallel = 4
[classes.night]
limit = "12h"
enforce = true
backends = ["slurm", "process"]
[classes.old]
alias_of = "elder"
[classes.elder]
alias_of = "night"
[classes.bare]
[classes.gpu]
alias_of = ""
parallel = 2
[classes.tin]
backends = ["container"]
`)
	if want := []string{"cpu_short", "cpu_long", "gpu_short", "gpu_long", "gpu", "gpu_slurm", "bare", "elder", "night", "old", "tin"}; !slices.Equal(c.ClassNames(), want) {
		t.Errorf("classes %q", c.ClassNames())
	}
	night := config.Class{Name: "night", Limit: 12 * time.Hour, Enforce: true, Backends: []string{"slurm", "process"}}
	for name, want := range map[string]config.Class{
		"cpu_short": {Name: "cpu_short", Limit: time.Minute, Short: true, Parallel: 4, Backends: []string{"process", "container"}},
		"night":     night,
		"old":       night,
		"bare":      {Name: "bare", Backends: []string{"process", "container"}},
		"gpu":       {Name: "gpu", Parallel: 2, Backends: []string{"process", "container"}},
	} {
		if got, err := c.Class(name); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, %v; want %+v", name, got, err, want)
		}
	}
	if tin, err := c.Class("tin"); err != nil {
		t.Errorf("a class of containers is %+v, %v", tin, err)
	}
}

func TestClass(t *testing.T) {
	t.Parallel()
	c := config.Default("/w")
	for name, want := range map[string]string{"": config.ClassCPUShort, "cpu_long": "cpu_long", "gpu": config.ClassGPULong} {
		if k, err := c.Class(name); err != nil || k.Name != want {
			t.Errorf("class %q is %q, %v; want %q", name, k.Name, err, want)
		}
	}
	_, err := c.Class("cpu-short")
	if want := `unknown class "cpu-short"; known are cpu_short, cpu_long, gpu_short, gpu_long, gpu, gpu_slurm; did you mean cpu_short?`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestTypes(t *testing.T) {
	t.Parallel()
	c := load(t, `
[types.rl_sweep]
description = "a sweep"
command = ["python", "-m", "sweeps.rl"]
class = "cpu_long"
workdir = "sweeps"
env = { SEED = "7", API_TOKEN = "hunter2" }
timeout = "1d12h"
retries = 2
cpus = 2.5
memory = "8GiB"
gpus = 1
gpu_memory = "10GB"
gpu_model = "H100"
[types.line]
command = "echo $HOME; true"
[types.boxed]
image = "alpine"
`)
	want := config.TaskType{
		Name: "rl_sweep", Description: "a sweep", Command: []string{"python", "-m", "sweeps.rl"}, Class: "cpu_long", Dir: "/w/sweeps",
		Env: []string{"API_TOKEN=hunter2", "SEED=7"}, Timeout: 36 * time.Hour, Retries: 2,
		Resources: task.Resources{CPUMilli: 2500, MemBytes: 8 << 30, GPUs: 1, GPUMem: 10e9, GPUModel: "H100"},
	}
	if got, err := c.Type("rl_sweep"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if line, err := c.Type("line"); err != nil || !slices.Equal(line.Command, []string{"/bin/sh", "-c", "echo $HOME; true"}) {
		t.Errorf("a text is %q, %v; want it as a line for the shell", line.Command, err)
	}
	for name, want := range map[string]string{
		"rl_sweeps": `unknown task type "rl_sweeps"; did you mean rl_sweep?`,
		"other":     `unknown task type "other"; known are boxed, line, rl_sweep`,
	} {
		if _, err := c.Type(name); task.CodeOf(err) != task.CodeInvalid || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for _, v := range c.Values() {
		if v.Key == "types.rl_sweep.env.API_TOKEN" && (v.Plain != "(hidden)" || v.Text() != "(hidden)") {
			t.Errorf("a token is shown: %+v", v)
		}
	}
	none := config.Default("/w")
	if _, err := none.Type("x"); task.CodeOf(err) != task.CodeInvalid {
		t.Errorf("no types: %v", err)
	}
}

func TestMachine(t *testing.T) {
	t.Parallel()
	if n := config.MachineCPUs(); n < 1 {
		t.Errorf("%d CPUs", n)
	}
	if n := config.MachineMemory(); n < 64<<20 {
		t.Errorf("%d bytes of memory", n)
	}
}

func TestMisspelledVariables(t *testing.T) {
	t.Parallel()
	got := config.MisspelledVariables([]string{"ORCHESTRATOR_GRCP_ADDR=x", "ENV_QUEUE_DIR=q", "ENV_QUEUEDIR=q", "KAFKA_HEAP_OPTS=1", "PATH=/", "odd", "DSPY_AGENT_SKIP_START=1"})
	want := map[string]string{"ORCHESTRATOR_GRCP_ADDR": "ORCHESTRATOR_GRPC_ADDR", "ENV_QUEUEDIR": "ENV_QUEUE_DIR"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMountsBelowTheHome(t *testing.T) {
	home := t.TempDir()
	path := filepath.Join(home, "config.toml")
	if err := os.WriteFile(path, []byte("[containers]\nmounts = [\"~/data\", \"/scratch\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	given := config.Given{Cwd: home, ConfigFlag: path, Lookup: func(name string) string { return map[string]string{"HOME": home}[name] }}
	c, err := config.Load(given)
	if err != nil || !reflect.DeepEqual(c.Containers.Mounts, []string{filepath.Join(home, "data"), "/scratch"}) {
		t.Errorf("got %v, %v", c.Containers.Mounts, err)
	}
	if err := os.WriteFile(path, []byte("[containers]\nmounts = [\"~else/data\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(given); err == nil {
		t.Error("another user's home is accepted")
	}
}
