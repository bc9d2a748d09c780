package compose_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/envmgr/compose"
	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

// load reads files from a folder named stack.
func load(t *testing.T, o compose.Options, files map[string]string) (compose.Loaded, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "stack")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if len(o.Files) == 0 {
		o.Files = []string{"compose.yml"}
	}
	for i, name := range o.Files {
		o.Files[i] = filepath.Join(dir, name)
	}
	o.Network = "net"
	return compose.Load(t.Context(), o)
}

// TestLoad: what a file says is what is made.
func TestLoad(t *testing.T) {
	t.Parallel()
	got, err := load(t, compose.Options{Env: []string{"TAG=9"}, Profiles: []string{"web"}}, map[string]string{
		".env": "TAG=8\nPORT=7000\n",
		"compose.yml": `
x-note: for people
services:
  db:
    image: "db:${TAG}"
    container_name: the-db
    command: ["serve", "--port", "5432"]
    environment: { B: "2", A: "1", UNSET: }
    ports: ["127.0.0.1:${PORT}:5432", "53:53/udp"]
    volumes: ["data:/var/lib/db", "./conf.d:/etc/db:ro"]
    healthcheck: { test: ["CMD", "ping", "-q"], interval: 2s, retries: 5, timeout: 1s, start_period: 10s }
    stop_grace_period: 30s
    mem_limit: 1g
    restart: always
    security_opt: ["no-new-privileges:true"]
  prepare:
    image: "db:1"
    command: prepare --all "in one"
    network_mode: host
  web:
    image: web
    profiles: [web]
    healthcheck: { test: "curl -f localhost || exit 1" }
    depends_on:
      db: { condition: service_healthy, restart: true }
      prepare: { condition: service_completed_successfully }
    networks: [front, theirs]
  other:
    image: other
    profiles: [other]
volumes: { data: }
networks: { front: , theirs: { external: true, name: shared } }
`,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Project != "stack" || len(got.Services) != 3 {
		t.Fatalf("project %s with %d services", got.Project, len(got.Services))
	}
	conf := got.Services[0].Volumes[1].Source
	if !filepath.IsAbs(conf) || filepath.Base(conf) != "conf.d" {
		t.Errorf("the path is %s", conf)
	}
	want := []envmgr.Definition{
		{
			Name: "db", Container: "the-db", Image: "db:9", Command: []string{"serve", "--port", "5432"}, Env: []string{"A=1", "B=2"},
			Ports:   []envmgr.Port{{Address: "127.0.0.1", Host: 7000, Container: 5432}, {Address: "0.0.0.0", Host: 53, Container: 53, UDP: true}},
			Volumes: []envmgr.Volume{{Name: "stack_data", Target: "/var/lib/db"}, {Source: conf, Target: "/etc/db", ReadOnly: true}},
			Ready:   probe.Spec{Kind: probe.Exec, Command: []string{"ping", "-q"}, Timeout: time.Second}, Required: true, NoNewPrivileges: true,
			MemBytes: 1 << 30, Limits: envmgr.Limits{StopTimeout: 30 * time.Second, StartTimeout: 20 * time.Second},
		},
		{
			Name: "prepare", Image: "db:1", Command: []string{"prepare", "--all", "in one"}, Host: true, Required: true, Once: true,
			Ready: probe.Spec{Kind: probe.None},
		},
		{
			Name: "web", Image: "web", Required: true, Ready: probe.Spec{Kind: probe.Exec, Command: []string{"/bin/sh", "-c", "curl -f localhost || exit 1"}, Timeout: 30 * time.Second},
			Needs:    []envmgr.Need{{Name: "db", Restart: true}, {Name: "prepare", When: envmgr.WhenDone}},
			Networks: []envmgr.Network{{Name: "net-front"}, {Name: "shared", External: true}},
		},
	}
	if diff := cmp.Diff(want, got.Services); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
	if _, err := envmgr.NewSet(got.Services); err != nil {
		t.Error(err)
	}
}

// TestRefused: what is not understood is named, all of it.
func TestRefused(t *testing.T) {
	t.Parallel()
	_, err := load(t, compose.Options{}, map[string]string{"compose.yml": `
services:
  a:
    image: a
    privileged: true
    devices: ["/dev/sda"]
    build: .
  b:
    image: b
    ports: ["8000-8010:8000-8010"]
    volumes: ["/anonymous"]
    scale: 3
    security_opt: ["seccomp=unconfined"]
`})
	if !errors.Is(err, compose.ErrUnsupported) {
		t.Fatalf("it says %v", err)
	}
	msg := err.Error()
	for _, want := range []string{"service a: build is", "service a: devices is", "service a: privileged is", "service b: scale is", "service b: security_opt is", "service b: volumes is"} {
		if !strings.Contains(msg, want) {
			t.Errorf("it does not say %q:\n%s", want, msg)
		}
	}
}

// TestNeverIgnored: each of these changes what a container is like, or would have, and is
// refused by its name where it cannot be had.
func TestNeverIgnored(t *testing.T) {
	t.Parallel()
	const head = "services:\n  a:\n    image: a\n"
	for what, c := range map[string]struct{ file, says string }{
		"internal network":    {head + "networks: { default: { internal: true } }\n", "service a: networks.default is not supported: internal"},
		"driver":              {head + "    networks: [n]\nnetworks: { n: { driver: macvlan } }\n", "networks.n is not supported: driver"},
		"addresses":           {head + "    networks: [n]\nnetworks: { n: { ipam: { config: [ { subnet: 10.9.0.0/24 } ] } } }\n", "networks.n is not supported: internal, ipam"},
		"alias":               {head + "    networks: { n: { aliases: [db] } }\nnetworks: { n: }\n", "networks.n is not supported: a service has its name"},
		"fixed address":       {head + "    networks: { n: { ipv4_address: 10.9.0.7 } }\nnetworks: { n: }\n", "networks.n is not supported: a service has its name"},
		"volume's driver":     {head + "    volumes: [\"vol:/v\"]\nvolumes: { vol: { driver: nfs } }\n", "volumes.vol is not supported: driver"},
		"volume's options":    {head + "    volumes: [\"vol:/v\"]\nvolumes: { vol: { driver_opts: { type: tmpfs } } }\n", "volumes.vol is not supported: driver"},
		"external volume":     {head + "    volumes: [\"vol:/v\"]\nvolumes: { vol: { external: true, name: theirs } }\n", "volumes.vol.external is not supported: one that is missing is made here, empty; name it without external (name: theirs)"},
		"nocopy":              {head + "    volumes: [\"vol:/v:nocopy\"]\nvolumes: { vol: }\n", "nocopy, subpath or labels"},
		"subpath":             {head + "    volumes: [ { type: volume, source: vol, target: /v, volume: { subpath: x } } ]\nvolumes: { vol: }\n", "nocopy, subpath or labels"},
		"propagation":         {head + "    volumes: [\"/x:/v:rshared\"]\n", "propagation, recursive, z or Z"},
		"SELinux":             {head + "    volumes: [\"/x:/v:Z\"]\n", "propagation, recursive, z or Z"},
		"number of processes": {head + "    deploy: { resources: { limits: { pids: 9 } } }\n", "deploy.resources.limits.pids is not supported"},
		"never pulled":        {head + "    pull_policy: never\n", "pull_policy is not supported: \"never\""},
		"global":              {head + "    deploy: { mode: global-job }\n", "deploy.mode is not supported"},
	} {
		_, err := load(t, compose.Options{}, map[string]string{"compose.yml": c.file})
		if !errors.Is(err, compose.ErrUnsupported) {
			t.Errorf("%s: it says %v", what, err)
			continue
		}
		if msg := err.Error(); !strings.Contains(msg, c.says) {
			t.Errorf("%s: it says %q, without %q", what, msg, c.says)
		}
	}
}

// TestDefaultNetwork: that of the file is ours, unless the file says that it is another's.
func TestDefaultNetwork(t *testing.T) {
	t.Parallel()
	for top, want := range map[string][]envmgr.Network{
		"": nil, "networks: { default: { external: true, name: lab } }\n": {{Name: "lab", External: true}},
		"networks: { default: { driver: bridge } }\n": nil,
	} {
		got, err := load(t, compose.Options{}, map[string]string{"compose.yml": "services:\n  a:\n    image: a\n" + top})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.Services[0].Networks); diff != "" {
			t.Errorf("%q: want -, got +\n%s", top, diff)
		}
	}
}

// TestBadFiles: the error names the file.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	for what, text := range map[string]string{
		"no yaml": "services: [", "unknown key": "services:\n  a:\n    image: a\n    imagine: b\n", "unknown need": "services:\n  a:\n    image: a\n    depends_on: [b]\n",
	} {
		_, err := load(t, compose.Options{}, map[string]string{"compose.yml": text})
		if err == nil {
			t.Errorf("%s: no error", what)
			continue
		}
		if msg := err.Error(); !strings.Contains(msg, "compose.yml") {
			t.Errorf("%s: it says %s", what, msg)
		}
	}
}
