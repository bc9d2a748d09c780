package services_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/envmgr/probe"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/services"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

const owner, prometheusFile = "1000:1000", "/run/prometheus.yml"

// load loads a configuration file, and that of ENV_MANAGER_CONFIG where there is one.
func load(t *testing.T, file, own string) (c config.Config, path, ownPath string) {
	t.Helper()
	dir := t.TempDir()
	env := map[string]string{"HOME": dir}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path = write("config.toml", file)
	if own != "" {
		ownPath = write("own.toml", own)
		env["ENV_MANAGER_CONFIG"] = ownPath
	}
	c, err := config.Load(config.Given{Cwd: "/", Found: "/w", ConfigFlag: path, Lookup: func(k string) string { return env[k] }})
	if err != nil {
		t.Fatal(err)
	}
	return c, path, ownPath
}

func builtin(t *testing.T, name string) envmgr.Definition {
	t.Helper()
	all := envmgr.Builtin(owner, prometheusFile)
	i := slices.IndexFunc(all, func(d envmgr.Definition) bool { return d.Name == name })
	if i < 0 {
		t.Fatalf("%s is not built in", name)
	}
	return all[i]
}

// TestNothingSaid: without a word about them, the services are those that are built in.
func TestNothingSaid(t *testing.T) {
	t.Parallel()
	c, _, _ := load(t, "", "")
	got, err := services.Set(c, owner, prometheusFile)
	if err != nil {
		t.Fatal(err)
	}
	want, err := envmgr.NewSet(envmgr.Builtin(owner, prometheusFile))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v, %v", got, want, err)
	}
	if err := services.Check(c); err != nil {
		t.Error(err)
	}
}

// TestSaid: what is said about a service is in its definition, and nothing else is changed.
func TestSaid(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		what, file, own, name string
		want                  func(d *envmgr.Definition)
	}{
		{what: "variables by name", file: "[services.kafka]\nenvironment = [\"KAFKA_BROKER_ID=7\", \"X=y\"]", name: "kafka", want: func(d *envmgr.Definition) {
			d.Env[0] = "KAFKA_BROKER_ID=7"
			d.Env = append(d.Env, "X=y")
		}},
		{what: "a table of variables", file: "[services.reddb.env]\nREDDB_PORT = \"\"", name: "reddb", want: func(d *envmgr.Definition) { d.Env[2] = "REDDB_PORT=" }},
		{what: "variables of both files", file: "[services.reddb.env]\nA = \"1\"\nB = \"1\"", own: "[[service_overrides]]\nname = \"reddb\"\nenvironment = [\"A=2\"]", name: "reddb", want: func(d *envmgr.Definition) {
			d.Env = append(d.Env, "A=2", "B=1")
		}},
		{what: "image and words", file: "[services.redis]\nimage = \"redis:8\"\ncommand = \"redis-server --appendonly yes\"\nentrypoint = [\"/e\"]\nuser = \"1:2\"", name: "redis", want: func(d *envmgr.Definition) {
			d.Image, d.Command, d.Entrypoint, d.User = "redis:8", []string{"redis-server", "--appendonly", "yes"}, []string{"/e"}, "1:2"
		}},
		{what: "the image's own", file: "[services.prometheus]\ncommand = []\nuser = \"\"", name: "prometheus", want: func(d *envmgr.Definition) { d.Command, d.User = nil, "" }},
		{what: "ports", file: "[services.redis]\nports = [\"0.0.0.0:7000:6379\", \"7001:7001/udp\"]", name: "redis", want: func(d *envmgr.Definition) {
			d.Ports = []envmgr.Port{{Address: "0.0.0.0", Host: 7000, Container: 6379}, {Host: 7001, Container: 7001, UDP: true}}
		}},
		{what: "no ports", file: "[services.redis]\nports = []", name: "redis", want: func(d *envmgr.Definition) { d.Ports = nil }},
		{what: "the host's network", file: "[services.redis]\nhost_network = true", name: "redis", want: func(d *envmgr.Definition) { d.Host, d.Ports = true, nil }},
		{what: "not the host's network", file: "[services.prometheus]\nhost_network = false\nports = [\"9090:9090\"]", name: "prometheus", want: func(d *envmgr.Definition) {
			d.Host, d.Ports = false, []envmgr.Port{{Host: 9090, Container: 9090}}
		}},
		{what: "volumes", file: "[services.redis]\nvolumes = [\"/data/redis:/data\", \"x:/x:ro\"]", name: "redis", want: func(d *envmgr.Definition) {
			d.Volumes = []envmgr.Volume{{Source: "/data/redis", Target: "/data"}, {Name: "x", Target: "/x", ReadOnly: true}}
		}},
		{what: "volumes beside what is ours", file: "[services.prometheus]\nvolumes = [\"big:/prometheus\"]", name: "prometheus", want: func(d *envmgr.Definition) {
			d.Volumes[0] = envmgr.Volume{Name: "big", Target: "/prometheus"}
		}},
		{what: "volumes in place of what is ours", file: "[services.prometheus]\nvolumes = [\"/p.yml:/etc/prometheus/prometheus.yml\"]", name: "prometheus", want: func(d *envmgr.Definition) {
			d.Volumes = []envmgr.Volume{{Source: "/p.yml", Target: "/etc/prometheus/prometheus.yml"}}
		}},
		{what: "needs", file: "[services.redis]\ndepends_on = [\"zookeeper\", \"reddb\"]", name: "redis", want: func(d *envmgr.Definition) {
			d.Needs = []envmgr.Need{{Name: "zookeeper"}, {Name: "reddb"}}
		}},
		{what: "no needs", file: "[services.kafka]\ndepends_on = []\n[services.zookeeper]\nenabled = false", name: "kafka", want: func(d *envmgr.Definition) { d.Needs = nil }},
		{what: "truths", file: "[services.redis]\nrequired = false\nadopt = true", name: "redis", want: func(d *envmgr.Definition) { d.Required, d.Adopt = false, true }},
		{what: "a question", file: "[services.reddb]\nhealth_check_url = \"http://127.0.0.1:8082/ready\"", name: "reddb", want: func(d *envmgr.Definition) {
			d.Ready = probe.Spec{Kind: probe.HTTP, Host: "127.0.0.1", Port: 8082, Path: "/ready"}
		}},
		{what: "the built-in question", file: "[services.reddb]\nhealth_check_url = \"\"", name: "reddb", want: func(*envmgr.Definition) {}},
		{what: "times and limits", file: "[services.kafka]\nstart_timeout = \"5s\"\nstop_timeout = \"1m\"\nmemory = \"1GiB\"\ncpus = 1.5", name: "kafka", want: func(d *envmgr.Definition) {
			d.StartTimeout, d.StopTimeout, d.MemBytes, d.CPUMilli = 5*time.Second, time.Minute, 1<<30, 1500
		}},
		{what: "more time for all", file: "env_manager.health_timeout = \"5m\"", name: "kafka", want: func(d *envmgr.Definition) { d.StartTimeout = 5 * time.Minute }},
		{what: "less time for all", file: "env_manager.health_timeout = \"5s\"", name: "kafka", want: func(*envmgr.Definition) {}},
		{what: "the own file wins", file: "[services.redis]\nimage = \"a\"\nuser = \"1\"", own: "[[service_overrides]]\nname = \"redis\"\nimage = \"b\"", name: "redis", want: func(d *envmgr.Definition) {
			d.Image, d.User = "b", "1"
		}},
	} {
		c, _, _ := load(t, tc.file, tc.own)
		set, err := services.Set(c, owner, prometheusFile)
		if err != nil {
			t.Errorf("%s: %v", tc.what, err)
			continue
		}
		want := builtin(t, tc.name)
		tc.want(&want)
		if got, _ := set.Get(tc.name); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got  %+v\n want %+v", tc.what, got, want)
		}
		for _, other := range set.Names() { // the others are as they were, but for the time that all are given
			if got, _ := set.Get(other); other != tc.name && other != "ollama" && !reflect.DeepEqual(got, builtin(t, other)) {
				t.Errorf("%s: %s became %+v", tc.what, other, got)
			}
		}
	}
}

// TestNewServices: one that is not built in is declared whole, and asked on its first port.
func TestNewServices(t *testing.T) {
	t.Parallel()
	c, _, _ := load(t, "[services.mongo]\nimage = \"mongo:7\"\nports = [\"1:1/udp\", \"27017:27018\"]\ndepends_on = [\"redis\"]\nrequired = true\nenv = { A = \"1\" }",
		"[[service_overrides]]\nname = \"quiet\"\nimage = \"quiet\"\n[[service_overrides]]\nname = \"off\"\nimage = \"off\"\nenabled = false\n[[service_overrides]]\nname = \"told\"\nimage = \"told\"\nhealth_check_url = \"health\"")
	set, err := services.Set(c, owner, prometheusFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]envmgr.Definition{
		"mongo": {
			Name: "mongo", Image: "mongo:7", Required: true, Env: []string{"A=1"}, Needs: []envmgr.Need{{Name: "redis"}},
			Ports: []envmgr.Port{{Host: 1, Container: 1, UDP: true}, {Host: 27017, Container: 27018}}, Ready: probe.Spec{Kind: probe.TCP, Port: 27018},
		},
		"quiet": {Name: "quiet", Image: "quiet", Ready: probe.Spec{Kind: probe.None}},
		"told":  {Name: "told", Image: "told", Ready: probe.Spec{Kind: probe.Health}},
	} {
		if got, _ := set.Get(name); !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
	if _, there := set.Get("off"); there {
		t.Error("a disabled service is there")
	}
}

// TestOthers: services that are defined elsewhere may take the place of built-in ones, and what
// is said about them holds for them too; config check, which does not know them, lets it pass.
func TestOthers(t *testing.T) {
	t.Parallel()
	const said = "[services.web]\nrequired = true\nvolumes = [\"b:/b\"]\n[services.redis]\ndepends_on = [\"db\"]\n"
	web := envmgr.Definition{Name: "web", Image: "web", Ready: probe.Spec{Kind: probe.Health}, Volumes: []envmgr.Volume{{Source: "/a", Target: "/a"}}}
	db := envmgr.Definition{Name: "db", Image: "db", Ready: probe.Spec{Kind: probe.None}}
	redis := envmgr.Definition{Name: "redis", Image: "mine", Ready: probe.Spec{Kind: probe.None}}
	c, path, _ := load(t, "env_manager.compose_files = [\"/c.yaml\"]\n"+said, "")
	if err := services.Check(c); err != nil {
		t.Error(err)
	}
	set, err := services.Set(c, owner, prometheusFile, web, db, redis)
	if err != nil {
		t.Fatal(err)
	}
	web.Required, web.Volumes, redis.Needs = true, []envmgr.Volume{{Name: "b", Target: "/b"}}, []envmgr.Need{{Name: "db"}}
	for _, want := range []envmgr.Definition{web, db, redis} {
		if got, _ := set.Get(want.Name); !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
	_, err = services.Set(c, owner, prometheusFile)
	if task.CodeOf(err) != task.CodeInvalid {
		t.Fatalf("without them: %v", err)
	}
	if msg := err.Error(); !strings.Contains(msg, path+":2: services.web: there is no service web") {
		t.Errorf("without them: %s", msg)
	}
	if c, _, _ := load(t, said, ""); services.Check(c) == nil {
		t.Error("a service that nothing defines passes without compose files, too")
	}
}

// TestDisabled: what is disabled is not there, together with all that needs it.
func TestDisabled(t *testing.T) {
	t.Parallel()
	c, _, _ := load(t, "services.redis.enabled = false\nservices.infermesh-node-a.enabled = false\nservices.infermesh-node-b.enabled = false\nservices.infermesh-router.enabled = false", "")
	set, err := services.Set(c, owner, prometheusFile)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(set.Names(), " "); got != "reddb zookeeper kafka ollama prometheus" {
		t.Errorf("there are %s", got)
	}
}

// TestMistakes: each names its key, and the line of the file that has it.
func TestMistakes(t *testing.T) {
	t.Parallel()
	const names = "infermesh-node-a, infermesh-node-b, infermesh-router, kafka, ollama, prometheus, reddb, redis, zookeeper"
	for _, tc := range []struct {
		file, own string
		want      []string // "FILE:LINE: text", with c for the configuration and o for the own file
	}{
		{file: "[services.redis]\nenabled = false", want: []string{`c:2: services.redis.enabled is false, but infermesh-node-a, infermesh-node-b, infermesh-router cannot do without redis; disable what needs it as well, or leave it out of depends_on there`}},
		{own: "[[service_overrides]]\nname = \"zookeeper\"\nenabled = false", want: []string{`o:3: services.zookeeper.enabled is false, but kafka cannot do without zookeeper; disable what needs it as well, or leave it out of depends_on there`}},
		{file: "[services.reddis]\nrequired = true", want: []string{`c:1: services.reddis: there is no service reddis, and a new one needs an image; did you mean services.redis?`}},
		{file: "[services.mongo]\nrequired = true", want: []string{`c:1: services.mongo: there is no service mongo, and a new one needs an image: add services.mongo.image; there are ` + names}},
		{file: "[services.redis]\nuser = \"1\"\nhealth_check_url = \"https://:1\"", want: []string{`c:3: services.redis.health_check_url: "https://:1": certificates are not checked, so https is not probed: write "tcp://", or a command of kind exec`}},
		{own: "[[service_overrides]]\nname = \"redis\"\nhealth_check_url = \"x\"", want: []string{`o:3: services.redis.health_check_url: "x" is not the URL of a probe: write it as in "http://127.0.0.1:8082/health", "tcp://:9000" or "redis://:6379"`}},
		{file: "[services.redis]\ndepends_on = [\"kafak\"]", want: []string{`c:2: services.redis.depends_on has "kafak", which is no service; did you mean kafka?`}},
		{file: "[services.redis]\ndepends_on = [\"other\"]", want: []string{`c:2: services.redis.depends_on has "other", which is no service; there are ` + names}},
		{file: "[services.redis]\ndepends_on = [\"redis\"]", want: []string{`c:2: services.redis.depends_on has redis itself; leave that out`}},
		{file: "[services.redis]\ndepends_on = [\"infermesh-router\"]", want: []string{`c:2: services.redis.depends_on: services need each other in a circle: redis needs infermesh-router needs infermesh-node-a needs redis`}},
		{file: "[services.x]\nimage = \"x\"\nports = [\"6379:1\"]", want: []string{`c:3: services.x.ports: the service is not well defined: services redis and x both want port 6379 of this host`}},
		{file: "[services.redis]\nhost_network = true\nports = [\"1:1\"]", want: []string{`c:3: services.redis.ports has no effect, since services.redis.host_network is true: the service listens on this host itself; leave out one of the two`}},
		{file: "[services.prometheus]\nports = [\"1:1\"]", want: []string{`c:2: services.prometheus.ports has no effect, since prometheus uses the host's network, where it listens itself; leave it out, or add services.prometheus.host_network = false`}},
		{file: "[services.mongo]\n[services.redis]\nhealth_check_url = \"x://\"", own: "[[service_overrides]]\nname = \"kafka\"\ndepends_on = [\"x\"]", want: []string{
			`c:1: services.mongo: there is no service mongo, and a new one needs an image: add services.mongo.image; there are ` + names,
			`c:3: services.redis.health_check_url: "x://": no probe begins with "x://": write it as in "http://127.0.0.1:8082/health", "tcp://:9000" or "redis://:6379"`,
			`o:3: services.kafka.depends_on has "x", which is no service; there are ` + names,
		}},
	} {
		c, path, own := load(t, tc.file, tc.own)
		err := services.Check(c)
		if task.CodeOf(err) != task.CodeInvalid {
			t.Errorf("%q %q: %v", tc.file, tc.own, err)
			continue
		}
		msg := err.Error()
		for _, want := range tc.want {
			want = strings.NewReplacer("c:", path+":", "o:", own+":").Replace(want[:2]) + want[2:]
			if !strings.Contains(msg, want) || len(tc.want) == 1 && msg != want {
				t.Errorf("%q %q\n got  %s\n want %s", tc.file, tc.own, msg, want)
			}
		}
	}
}

// TestPolicy: the questions are spread over the time that a start has, within bounds.
func TestPolicy(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		file         string
		start, doubt time.Duration
	}{
		{"", time.Minute, 2 * time.Second},
		{"[env_manager]\nhealth_timeout = \"30s\"\nhealth_attempts = 10", 30 * time.Second, 3 * time.Second},
		{"[env_manager]\nhealth_timeout = \"1s\"\nhealth_attempts = 100", time.Second, 200 * time.Millisecond},
		{"[env_manager]\nhealth_timeout = \"2h\"", 2 * time.Hour, 5 * time.Second},
	} {
		c, _, _ := load(t, tc.file, "")
		want := envmgr.Defaults()
		want.StartTimeout, want.Doubt = tc.start, tc.doubt
		if got := services.Policy(c); got != want {
			t.Errorf("%q: got %+v, want %+v", tc.file, got, want)
		}
	}
}
