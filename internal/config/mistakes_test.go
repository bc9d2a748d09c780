package config_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

const (
	durations = `write a duration with its unit, such as "90s", "10m", "1h30m" or "7d", at most "36500d"`
	sizes     = `write a size with its unit, such as "12GiB" (of 1024) or "500MB" (of 1000)`
	addresses = `write HOST:PORT such as "127.0.0.1:50052", with a port from 0 (any free one) to 65535, or "none"`
	tables    = `there are [capacity], [gpu], [retention], [output], [containers], [slurm], [workers], [limits], [access], [env_manager], [classes], [types], [services]`
	topKeys   = `queue_dir, log_dir, grpc_addr, http_addr, docker_host, env_manager_addr`
	known     = `which is no class; there are cpu_short, cpu_long, gpu_short, gpu_long, gpu, gpu_slurm`
	portForms = `write a list of "HOST:CONTAINER" or "ADDRESS:HOST:CONTAINER", none twice, with /udp behind where it is not TCP, such as ["6390:6379"]; ADDRESS is one of this host's, as in 0.0.0.0 or [::1]`
	notTOML   = `; texts stand in quotes, as in key = "text"`
)

const volumeForms = `write a list of "WHAT:TARGET" or "WHAT:TARGET:ro", no TARGET twice, such as ["redis_data:/data"]; WHAT is the name of a volume, or a path that begins with /, ~/ or ./, and TARGET is a path in the container that begins with /`

// TestMistakes has every kind of mistake in a file, with the exact words.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ file, want string }{
		// Keys that there are not.
		{`log_dri = "x"`, `1: there is no key log_dri; did you mean log_dir?`},
		{`memory = "1GiB"`, `1: there is no key memory; did you mean capacity.memory?`},
		{`quux = 1`, `1: there is no key quux; above the first [table] there are ` + topKeys},
		{"[capacity]\nmemroy = 1", `2: there is no key capacity.memroy; did you mean capacity.memory?`},
		{"[capacity]\ngrpc_addr = \"x\"", `2: there is no key capacity.grpc_addr; did you mean grpc_addr, which stands above the first [table], or env_manager.grpc_addr?`},
		{"[capacity]\nquux = 1", `2: there is no key capacity.quux; [capacity] has cpus, memory, nice`},
		{"[retenton]\na = 1\nb = 2", `1: there is no table [retenton]; did you mean [retention]?`},
		{"[retenton]", `1: there is no table [retenton]; did you mean [retention]?`},
		{"quux.a = 1", `1: there is no table [quux]; ` + tables},
		{"[nice]", `1: there is no table [nice]; it is a key: write capacity.nice = ...`},
		{"[classes.a.b]", `1: there is no table [classes.a.b]; ` + tables},
		{"[classes.cpu_long]\nlmit = 1", `2: there is no key classes.cpu_long.lmit; did you mean classes.cpu_long.limit?`},
		{"[types.a]\ncomand = 1\nimage = \"x\"", `2: there is no key types.a.comand; did you mean types.a.command?`},
		{"\"a\\u001b\" = 1", `1: there is no key "a\u001B"; above the first [table] there are ` + topKeys},
		{"[kafka]\nevent_topic = \"x\"", `2: kafka.event_topic cannot be set in the file: Kafka is not in this release yet`},
		{`workspace = "x"`, `1: workspace cannot be set in the file: give --workspace, or change to the folder`},
		{`capacity = 3`, `1: capacity is 3; it is a table: write [capacity], and its keys below`},
		{"types.x.env = 1\ntypes.x.command = \"x\"", `1: types.x.env is 1; it is a table: write [types.x.env] and NAME = "VALUE" below`},

		// Values that are wrong.
		{`grpc_addr = 50052`, `1: grpc_addr is 50052; ` + addresses},
		{`grpc_addr = "localhost"`, `1: grpc_addr is "localhost"; ` + addresses},
		{`http_addr = ":70000"`, `1: http_addr is ":70000"; ` + addresses},
		{`http_addr = ":http"`, `1: http_addr is ":http"; ` + addresses},
		{`log_dir = ["x"]`, `1: log_dir is ["x"]; write a path, absolute, below the home ("~/x") or relative to the workspace`},
		{`log_dir = "~bob/x"`, `1: log_dir is "~bob/x"; write a path, absolute, below the home ("~/x") or relative to the workspace`},
		{`capacity.cpus = "4"`, `1: capacity.cpus is "4"; write 0, or a number from 1 to 1000000 with at most three decimals`},
		{`capacity.cpus = 0.5`, `1: capacity.cpus is 0.5; write 0, or a number from 1 to 1000000 with at most three decimals`},
		{`capacity.cpus = 1e9`, `1: capacity.cpus is 1e9; write 0, or a number from 1 to 1000000 with at most three decimals`},
		{`capacity.cpus = nan`, `1: capacity.cpus is nan; write 0, or a number from 1 to 1000000 with at most three decimals`},
		{`capacity.memory = "12G"`, `1: capacity.memory is "12G"; ` + sizes},
		{`capacity.memory = 12`, `1: capacity.memory is 12; ` + sizes},
		{`capacity.nice = -1`, `1: capacity.nice is -1; write a whole number from 0 to 19`},
		{`capacity.nice = 1.5`, `1: capacity.nice is 1.5; write a whole number from 0 to 19`},
		{`retention.task_age = 7`, `1: retention.task_age is 7; ` + durations},
		{`retention.task_age = "7"`, `1: retention.task_age is "7"; ` + durations},
		{`retention.task_age = "7 days"`, `1: retention.task_age is "7 days"; ` + durations},
		{`retention.task_age = 2026-01-01`, `1: retention.task_age is 2026-01-01; ` + durations},
		{`output.max_log = "1KiB"`, `1: output.max_log is "1KiB"; ` + sizes + `, from "1MiB" to "1024TiB"`},
		{`access.metrics_allow_uids = [1, 1]`, `1: access.metrics_allow_uids is [1, 1]; write a list of user ids, none twice, such as [1001]; id -u NAME prints one`},
		{`limits.max_connections = 0`, `1: limits.max_connections is 0; write a whole number from 1 to 100000`},
		{`access.http_hosts = ["a:1"]`, `1: access.http_hosts is ["a:1"]; write a list of host names without ports, none twice, such as ["login1.example.org"]`},
		{`log_dir = 1 # ` + strings.Repeat("x", 5000), `1: log_dir is 1; write a path, absolute, below the home ("~/x") or relative to the workspace`},
		{`http_addr = "` + strings.Repeat("x", 5000) + `"`, `1: http_addr is "` + strings.Repeat("x", 60) + `"...; ` + addresses},

		// Classes.
		{"[classes.Big]\nparallel = 1\nlimit = \"1s\"", `1: class "Big": the name of a class has small letters, digits and _ only, at most 64`},
		{"[classes.cpu_short]\nenforce = \"yes\"", `2: classes.cpu_short.enforce is "yes"; write true or false`},
		{"[classes.x]\nbackends = [\"docker\"]", `2: classes.x.backends is ["docker"]; write a list, best first and none twice, of container, process, slurm, worker`},
		{"[classes.x]\nbackends = []", `2: classes.x.backends is []; write a list, best first and none twice, of container, process, slurm, worker`},
		{"[classes.x]\nenforce = true", `2: classes.x.enforce is true, but the class has no limit; add classes.x.limit, or leave enforce out`},
		{"[classes.x]\nlimit = \"400d\"", `2: classes.x.limit is "400d"; write a duration with its unit, such as "90s", "10m", "1h30m" or "7d", at most "366d"`},
		{"[classes.x]\nalias_of = \"y\"", `2: classes.x.alias_of is "y", ` + known + `, x`},
		{"[classes.x]\nalias_of = \"x\"", `2: classes.x.alias_of leads back to itself: x -> x; let one of them be a class of its own`},
		{"classes.b.alias_of = \"a\"\nclasses.a.alias_of = \"b\"\nclasses.c.alias_of = \"a\"", `2: classes.a.alias_of leads back to itself: a -> b -> a; let one of them be a class of its own`},
		{"[classes.gpu]\nparallel = 3", `2: classes.gpu.parallel has no effect, since gpu is another name of gpu_long; set it there, or make gpu a class of its own with alias_of = ""`},

		// Task types.
		{"[types.\"a b\"]\nimage = \"x\"", `1: task type "a b": the name of a task type has letters, digits, _ and - only, at most 100`},
		{"[types.a]\ntimeout = \"1h\"", `1: task type a has nothing to run; add command = ["PROGRAM", "ARGUMENT"]`},
		{"[types.a]\ncommand = []", `2: types.a.command is []; write a list of words such as ["python", "train.py"], or one text for the shell`},
		{"[types.a]\ncommand = \" \"", `2: types.a.command is " "; write a list of words such as ["python", "train.py"], or one text for the shell`},
		{"[types.a]\ncommand = [\"a\", 1]", `2: types.a.command is ["a", 1]; write a list of words such as ["python", "train.py"], or one text for the shell`},
		{"[types.a]\nimage = \"x\"\nclass = \"y\"", `3: types.a.class is "y", ` + known},
		{"[types.a]\nimage = \"x\"\nenv = { A = 1 }", `3: types.a.env.A is 1; write a text, in quotes, since a variable has no other type`},
		{"[types.a]\nimage = \"x\"\nenv = { \"A=B\" = \"1\" }", `3: types.a.env."A=B": "A=B" is no name of a variable`},
		{"[types.a]\nimage = \"x\"\nenv = { DSPY_TASK_ID = \"1\" }", `1: task type a: environment variable DSPY_TASK_ID is set by the scheduler and cannot be given`},
		{"[types.a]\nimage = \"x\"\nretries = 1001", `3: types.a.retries is 1001; write a whole number from 0 to 1000`},

		// Services.
		{"[services.Redis]\nimage = \"x\"", `1: service "Redis": the name of a service has small letters, digits, _ . and - only, at most 63, and begins with a letter or digit`},
		{"[services.redis]\nimgae = \"x\"", `2: there is no key services.redis.imgae; did you mean services.redis.image?`},
		{"[services.redis]\nquux = \"x\"", `2: there is no key services.redis.quux; [services.redis] has enabled, required, adopt, image, command, entrypoint, ports, volumes, depends_on, user, host_network, health_check_url, start_timeout, stop_timeout, memory, cpus, environment, env`},
		{"[services.redis.evn]\nA = \"x\"", `1: there is no table [services.redis.evn]; ` + tables},
		{"[services.redis]\nenabled = \"no\"", `2: services.redis.enabled is "no"; write true or false`},
		{"[services.redis]\nimage = \"\"", `2: services.redis.image is ""; write the name of an image`},
		{"[services.redis]\nports = [6379]", `2: services.redis.ports is [6379]; ` + portForms},
		{"[services.redis]\nports = [\"6379\"]", `2: services.redis.ports is ["6379"]; ` + portForms},
		{"[services.redis]\nports = [\"localhost:1:2\"]", `2: services.redis.ports is ["localhost:1:2"]; ` + portForms},
		{"[services.redis]\nports = [\"1:2\", \"1:2/tcp\"]", `2: services.redis.ports is ["1:2", "1:2/tcp"]; ` + portForms},
		{"[services.redis]\nvolumes = [\"data\"]", `2: services.redis.volumes is ["data"]; ` + volumeForms},
		{"[services.redis]\nvolumes = [\"a:/x\", \"b:/x\"]", `2: services.redis.volumes is ["a:/x", "b:/x"]; ` + volumeForms},
		{"[services.redis]\ndepends_on = \"kafka\"", `2: services.redis.depends_on is "kafka"; write a list of names of services, none twice, such as ["zookeeper"]`},
		{"[services.redis]\ncommand = \"a 'b\"", `2: services.redis.command is "a 'b"; write a list of words such as ["redis-server", "--appendonly", "yes"], or one text with spaces between them`},
		{"[services.redis]\nhealth_check_url = 6379", `2: services.redis.health_check_url is 6379; write a text`},
		{"[services.redis]\nenvironment = [\"A=1\", \"B\"]", `2: services.redis.environment is ["B"]; write a list of texts such as ["NAME=VALUE"]`},
		{"[services.redis]\nenvironment = \"A=1\"", `2: services.redis.environment is "A=1"; write a list of texts such as ["NAME=VALUE"]`},
		{"[services.redis]\nenvironment = [\"A=1\"]\nenv = { A = \"2\" }", `3: services.redis.env.A: the variable "A" of service redis is given twice, in line 2 too; keep one of them`},
		{"[services.redis]\nenv = { A = 1 }", `2: services.redis.env.A is 1; write a text, in quotes, since a variable has no other type`},
		{"[services.redis]\nenv = [\"A=1\"]", `2: services.redis.env is ["A=1"]; it is a table: write [services.redis.env] and NAME = "VALUE" below, or environment = ["NAME=VALUE"]`},
		{"[[service_overrides]]\nname = \"redis\"", `1: [[service_overrides]] is a list of tables, which no setting is; write [services.NAME]`},
		{"[[services.redis]]\nimage = \"x\"", `1: [[services.redis]] is a list of tables, which no setting is; write [services.redis]`},
		{"services = 1", `1: services is 1; it is a table: write [services], and its keys below`},
		{"[env_manager]\nhealth_timeout = 60", `2: env_manager.health_timeout is 60; write a duration with its unit, such as "90s" or "2m", from "1s" to "24h"`},
		{"[env_manager]\nhealth_timeout = \"60\"", `2: env_manager.health_timeout is "60"; write a duration with its unit, such as "90s" or "2m", from "1s" to "24h"`},
		{"[env_manager]\nmax_concurrent_starts = \"5\"", `2: env_manager.max_concurrent_starts is "5"; write a whole number from 0 to 1000`},
		{"[env_manager]\nverbose = \"true\"", `2: env_manager.verbose is "true"; write true or false`},
		{"[env_manager]\nmax_concurent_starts = 5", `2: there is no key env_manager.max_concurent_starts; did you mean env_manager.max_concurrent_starts?`},

		// Files that are no TOML, or say things twice.
		{"log_dir = \"a\"\n[capacity]\n[capacity]", `3: [capacity] is given twice, in line 2 too; keep one of them`},
		{"log_dir = \"a\"\nlog_dir = \"b\"", `2: log_dir is given twice, in line 1 too; keep one of them`},
		{"[classes.x]\nlimit = \"1s\"\n[classes]\nx.limit = \"2s\"", `4: classes.x.limit is given twice, in line 2 too; keep one of them`},
		{"[[types.x]]\ncommand = \"x\"", `1: [[types.x]] is a list of tables, which no setting is; write [types.x]`},
		{"\n\nlog_dir = x", `3: this is not TOML: unexpected character U+0078 'x' at start of value` + notTOML},
		{"[classes.x]\nlimit = 1m", `2: this is not TOML: strings must be quoted` + notTOML},
		{"[capacity]\nnice = 007", `2: this is not TOML: integers cannot have leading zeroes`},
		{"log_dir = \"a\xff\"", `1: this is not UTF-8 text; save the file as UTF-8`},
		{"log_dir = \"a\"\n\nb = \"\x00\"", `3: this is not TOML: basic strings cannot have control characters`},
	} {
		_, path, err := world{file: tc.file}.load(t)
		if want := path + ":" + tc.want; err == nil || err.Error() != want || task.CodeOf(err) != task.CodeInvalid {
			t.Errorf("%.200q\n got  %v\n want %s", tc.file, err, want)
		}
	}
}

// TestAllMistakesAtOnce: of one file, in the order of its lines, with those of
// the environment before them.
func TestAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	w := world{
		file:  "log_dri = 1\nhttp_addr = 2\nhttp_addr = 3\n[classes.x]\nalias_of = \"y\"\n[capacity]\nnice = 99\ncpus = ",
		env:   map[string]string{"ORCHESTRATOR_GRPC_ADDR": "x", "XDG_RUNTIME_DIR": "run"},
		flags: map[string]string{"http-addr": "y"},
	}
	_, path, err := w.load(t)
	e, ok := errors.AsType[*config.InvalidError](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	var got []string
	for _, p := range e.Problems {
		if (p.File == path) != (p.Line > 0) || p.Key == "" && p.Line != 8 {
			t.Errorf("a problem without its place: %+v", p)
		}
		got = append(got, fmt.Sprintf("%d %s", p.Line, p.Key))
	}
	want := "0 XDG_RUNTIME_DIR, 0 ORCHESTRATOR_GRPC_ADDR, 0 --http-addr, 1 log_dri, 2 http_addr, 3 http_addr, 5 classes.x.alias_of, 7 capacity.nice, 8 "
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	msg := err.Error()
	if head, _, _ := strings.Cut(msg, "\n"); head != "9 mistakes in the configuration:" {
		t.Errorf("the message begins %q", head)
	}
}

// TestAbsurdFiles: files that would cost the square of their size are refused in
// little time, and with few words.
func TestAbsurdFiles(t *testing.T) {
	t.Parallel()
	const n = 100_000
	for name, file := range map[string]string{
		"unknown keys":   strings.Repeat("a.b = 1\n", n),
		"unknown tables": strings.Repeat("[a.b]\n", n),
		"lists":          "a = " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		"inline tables":  strings.Repeat("a={", 9000) + strings.Repeat("}", 9000),
		"a dotted key":   strings.Repeat("a.", n) + "a = 1",
		"a deep header":  "[" + strings.Repeat("a.", n) + "a]\n" + strings.Repeat("b=1\n", n),
		"many tables":    many("[types.x%d]\ncommand = \"x\"\n"),
		"many keys":      "[types.x.env]\n" + many("V%d = \"x\"\n"),
		"a long list":    "a = [" + strings.Repeat("1,", n) + "]",
		"many in one":    "a = [{" + many("a%d = 1, ") + "b = 1}]",
		"a long key":     strings.Repeat("a", n) + " = 1",
		"long names":     strings.Repeat("[types."+strings.Repeat("a", 1000)+"]\n", 500),
	} {
		_, _, err := world{file: file}.load(t)
		e, ok := errors.AsType[*config.InvalidError](err)
		if !ok || len(e.Problems) > 110 || len(err.Error()) > 500_000 {
			t.Errorf("%s: %d mistakes, in %d bytes", name, len(e.Problems), len(err.Error()))
		}
	}
}

// many is a text as often as is absurd, with numbers in it.
func many(format string) string {
	var b strings.Builder
	for i := range 40_000 {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// TestManyVariables: a large table that is right is no trouble either.
func TestManyVariables(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("[types.x]\ncommand = \"x\"\n[types.x.env]\n")
	for i := range 4_000 {
		fmt.Fprintf(&b, "V%d = \"1\"\n", i)
	}
	c := load(t, b.String())
	if x, err := c.Type("x"); err != nil || len(x.Env) != 4_000 || x.Env[0] != "V0=1" {
		t.Errorf("%d variables, %v", len(x.Env), err)
	}
}

// TestForms: what means the same is read the same.
func TestForms(t *testing.T) {
	t.Parallel()
	for _, file := range []string{
		"capacity.nice = 3", "capacity = { nice = 3 }", "[capacity]\nnice=0x3", "[capacity]\r\nnice = 3\r\n", "\xef\xbb\xbf[capacity]\nnice = 3",
		"[ capacity ] # c\n\"nice\" = +3 # c", "[capacity]\n'nice' = 3\n[classes]\n[types]\n[kafka]\n",
	} {
		if c := load(t, file); c.Nice != 3 {
			t.Errorf("%q: nice is %d", file, c.Nice)
		}
	}
}
