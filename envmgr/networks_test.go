package envmgr

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// ledger is an engine that keeps what it was asked for, and fails where it is told to.
type ledger struct {
	Engine
	did     []string
	fails   map[string]error
	volumes []string
	list    []docker.Listed
	spec    docker.ServiceSpec
}

func (l *ledger) do(words ...string) error {
	text := strings.Join(words, " ")
	l.did = append(l.did, text)
	return l.fails[text]
}

func (l *ledger) EnsureNetwork(_ context.Context, name string, _ map[string]string) error {
	return l.do("ensure", name)
}

func (l *ledger) JoinNetwork(_ context.Context, name, id string, aliases ...string) error {
	return l.do(append([]string{"join", name, id}, aliases...)...)
}
func (l *ledger) Start(_ context.Context, id string) error         { return l.do("start", id) }
func (l *ledger) RemoveService(_ context.Context, id string) error { return l.do("remove", id) }
func (l *ledger) Image(context.Context, string) (docker.Image, error) {
	return docker.Image{Volumes: l.volumes}, nil
}

func (l *ledger) CreateService(_ context.Context, s docker.ServiceSpec) (string, error) {
	l.spec = s
	return "new", l.do("create", s.Name)
}

func (l *ledger) List(context.Context, ...string) ([]docker.Listed, error) { return l.list, nil }

// desk is a Supervisor that is not run, with a ledger.
func desk(t *testing.T, l *ledger, all ...Definition) *care {
	t.Helper()
	set, err := NewSet(all)
	if err != nil {
		t.Fatal(err)
	}
	return newCare(t.Context(), New(Options{Engine: l, Set: set, Site: "s", Network: "ours", Policy: Defaults(), Logger: slog.New(slog.DiscardHandler)}))
}

func (l *ledger) expect(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(l.did, want) {
		t.Errorf("it did\n%s\nand should have done\n%s", strings.Join(l.did, "\n"), strings.Join(want, "\n"))
	}
	l.did = nil
}

// TestStartMendsNetworks: a container that was made by a step which came to no end is in
// all its networks when it is started, and in those that were made again.
func TestStartMendsNetworks(t *testing.T) {
	t.Parallel()
	d := named("redis")
	d.Networks = []Network{{Name: "front"}, {Name: "back"}, {Name: "theirs", External: true}}
	l := &ledger{fails: map[string]error{"join back new redis": docker.ErrAway}}
	c := desk(t, l, d)
	if err := c.perform(t.Context(), d, Create, sighting{}, ties{join: []string{"kafkas"}}); !errors.Is(err, docker.ErrAway) {
		t.Fatalf("it says %v", err)
	}
	l.expect(t, "ensure front", "ensure back", "create redis", "join front new redis", "join back new redis")
	l.fails = nil
	half := sighting{box: &Box{ID: "new", Current: true}, service: docker.Service{Networks: map[string]netip.Addr{"front": {}}}}
	if err := c.perform(t.Context(), d, Start, half, ties{join: []string{"kafkas"}}); err != nil {
		t.Fatal(err)
	}
	l.expect(t, "ensure front", "ensure back", "join front new redis", "join back new redis", "join theirs new redis", "join kafkas new redis", "start new")
	l.fails = map[string]error{"join theirs new redis": docker.ErrNoNetwork}
	err := c.perform(t.Context(), d, Start, half, ties{})
	if !errors.Is(err, docker.ErrNoNetwork) {
		t.Fatalf("it says %v", err)
	}
	if msg := err.Error(); !strings.Contains(msg, "docker network create") {
		t.Errorf("it says %q", msg)
	}
	for _, d := range []Definition{{Name: "host", Host: true}, {Name: "bridged", Networks: []Network{{Name: "bridge", External: true}}}} {
		l.did, l.fails = nil, nil
		if err := c.perform(t.Context(), d, Start, half, ties{}); err != nil {
			t.Fatal(err)
		}
		l.expect(t, "start new")
		if spec := d.container("s", "ours"); len(spec.Aliases) != 0 {
			t.Errorf("%s has aliases, which are refused there", d.Name)
		}
	}
}

// TestTies: ours joins the networks of adopted ones that it needs and that need it, and
// is brought there before an adopted one starts.
func TestTies(t *testing.T) {
	t.Parallel()
	l := &ledger{}
	c := desk(t, l, named("zookeeper"), named("kafka", "zookeeper"), named("app", "kafka"))
	nets := map[string]netip.Addr{"stack_default": {}, "bridge": {}}
	c.services["kafka"].seen = sighting{box: &Box{ID: "k", Adopted: "docker compose"}, service: docker.Service{Networks: nets}}
	for _, name := range []string{"zookeeper", "app"} {
		if got := c.ties(c.services[name]); !slices.Equal(got.join, []string{"stack_default"}) || len(got.bring) > 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	zoo := c.services["zookeeper"]
	zoo.seen = sighting{box: &Box{ID: "z", Phase: docker.Running}, service: docker.Service{Networks: map[string]netip.Addr{"ours": {}}}}
	kafka := c.services["kafka"]
	if err := c.perform(t.Context(), kafka.def, Start, kafka.seen, c.ties(kafka)); err != nil {
		t.Fatal(err)
	}
	l.expect(t, "join stack_default z zookeeper", "start k") // and kafka itself is not moved
	zoo.seen.service.Networks["stack_default"] = netip.Addr{}
	if got := c.ties(kafka); len(got.bring) > 0 {
		t.Errorf("it is brought twice: %+v", got)
	}
}

// TestVolumesHaveNames: what the image wants to be a volume has one with a name that is
// the same whenever the container is made, and removing takes no volume along.
func TestVolumesHaveNames(t *testing.T) {
	t.Parallel()
	d := named("zookeeper")
	d.Volumes = []Volume{{Name: "zookeeper_data", Target: "/var/lib/zookeeper/data/"}}
	l := &ledger{volumes: []string{"/a/b", "/a_b", "/var/lib/zookeeper/data", "/var/lib/zookeeper/log"}}
	c := desk(t, l, d)
	var first []docker.ServiceMount
	for range 2 {
		if err := c.perform(t.Context(), d, Create, sighting{}, ties{}); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = l.spec.Mounts
		}
		if !slices.Equal(first, l.spec.Mounts) {
			t.Errorf("once %v, then %v", first, l.spec.Mounts)
		}
	}
	names := map[string]bool{}
	for _, m := range first {
		names[m.Volume] = true
	}
	if len(first) != 4 || len(names) != 4 || first[3].Target != "/var/lib/zookeeper/log" || !strings.HasPrefix(first[3].Volume, "zookeeper_var_lib_zookeeper_log_") {
		t.Errorf("it has %v", first)
	}
	l.did = nil
	if err := c.perform(t.Context(), d, Remove, sighting{box: &Box{ID: "x"}}, ties{}); err != nil {
		t.Fatal(err)
	}
	l.expect(t, "remove x") // by RemoveService
}
