package envmgr_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/dockertest"
)

func (b *bed) down(names ...string) {
	b.Helper()
	if _, err := b.sup.Down(b.Context(), names...); err != nil {
		b.Fatal(err)
	}
	b.wait("they are stopped", func(s envmgr.Snapshot) bool {
		return !slices.ContainsFunc(names, func(name string) bool { one, _ := s.Of(name); return one.Phase != envmgr.Stopped })
	})
}

// in fails unless a container runs in just these networks.
func (b *bed) in(id string, want ...string) {
	b.Helper()
	c, err := b.api.InspectService(b.Context(), id)
	if err != nil {
		b.Fatal(err)
	}
	var got []string
	for name, addr := range c.Networks {
		if addr.IsValid() {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		b.Errorf("%s is in %v, and should be in %v", c.Name, got, want)
	}
}

// TestNetworksThatWent: while nothing runs, people remove networks; and a container may
// have been left by a step that came to no end. All is as it should be after a start.
func TestNetworksThatWent(t *testing.T) {
	t.Parallel()
	d := standin("roamer", 0)
	d.Networks = []envmgr.Network{{Name: "went-front"}, {Name: "went-back"}, {Name: "went-theirs", External: true}}
	b := newBed(t, dockertest.Shared(t, dockertest.Config{}), d, standin("homely", 0))
	engine := b.engine.Client(t)
	if err := b.api.EnsureNetwork(t.Context(), "went-theirs", nil); err != nil {
		t.Fatal(err)
	}
	own := "net-" + b.site
	b.begin()
	b.up("roamer", "homely")
	first := b.allReady()
	roamer, _ := first.Of("roamer")
	homely, _ := first.Of("homely")
	b.in(roamer.Container, "went-back", "went-front", "went-theirs")
	b.down("roamer", "homely")
	for _, name := range []string{"went-front", own} {
		if err := engine.NetworkRemove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"went-back", "went-theirs"} {
		if err := engine.NetworkDisconnect(t.Context(), name, roamer.Container, true); err != nil {
			t.Fatal(err)
		}
	}
	b.up("roamer", "homely")
	for _, one := range b.allReady().Services {
		if one.Container != roamer.Container && one.Container != homely.Container {
			t.Errorf("%s was made anew", one.Name)
		}
	}
	b.in(roamer.Container, "went-back", "went-front", "went-theirs")
	b.in(homely.Container, own)
	b.down("roamer")
	if err := engine.NetworkRemove(t.Context(), "went-theirs"); err != nil {
		t.Fatal(err)
	}
	b.up("roamer")
	b.wait("what is missing is said", func(s envmgr.Snapshot) bool {
		one, _ := s.Of("roamer")
		return strings.Contains(one.Reason, "went-theirs") && strings.Contains(one.Reason, "docker network create")
	})
	if err := b.api.EnsureNetwork(t.Context(), "went-theirs", nil); err != nil {
		t.Fatal(err)
	}
	b.up("roamer")
	b.allReady()
	b.in(roamer.Container, "went-back", "went-front", "went-theirs")
}

// TestAdoptedFindsOurs: one that docker compose has made finds what it needs of ours in
// its own network, whichever of the two was there first.
func TestAdoptedFindsOurs(t *testing.T) {
	t.Parallel()
	b := newBed(t, dockertest.Shared(t, dockertest.Config{}), standin("keeper", 0), standin("broker", 0, "keeper"))
	b.begin()
	b.up("keeper")
	keeper := b.wait("the first is ready", func(s envmgr.Snapshot) bool { one, _ := s.Of("keeper"); return one.Ready() })
	one, _ := keeper.Of("keeper")
	if err := b.api.EnsureNetwork(t.Context(), "finds-stack", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.api.CreateService(t.Context(), docker.ServiceSpec{
		Name: "finds-broker-1", Image: dockertest.Standin, Command: []string{"connect=keeper:8080", "listen=:8080", "hang"}, Network: "finds-stack",
		Labels: map[string]string{"com.docker.compose.service": "broker", "com.docker.compose.project": "finds", "com.docker.compose.oneoff": "False"},
	}); err != nil {
		t.Fatal(err)
	}
	b.begin() // an engine tells nobody of a container that was only made
	b.up("broker")
	b.allReady()
	b.in(one.Container, "finds-stack", "net-"+b.site)
}

// TestDataStay: what a service has written to a path that its image wants to be a volume is
// there for the container that a changed definition makes.
func TestDataStay(t *testing.T) {
	t.Parallel()
	const image = "with-volume:1"
	d := standin("writer", 0)
	d.Image, d.Command = image, []string{"write=/data/x:kept", "listen=:8080", "hang"}
	b := newBed(t, dockertest.Shared(t, dockertest.Config{}), d)
	plain := dockertest.StandinImage(t)
	conf, err := plain.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config := *conf.Config.DeepCopy()
	config.Volumes = map[string]struct{}{"/data": {}}
	img, err := mutate.Config(plain, config)
	if err != nil {
		t.Fatal(err)
	}
	b.engine.Load(t, image, img)
	b.begin()
	b.up("writer")
	first, _ := b.allReady().Of("writer")
	d.Command = []string{"read=/data/x", "listen=:8080", "hang"}
	b.define(d)
	b.begin()
	b.up("writer")
	b.wait("another container has what the first has written", func(s envmgr.Snapshot) bool {
		one, _ := s.Of("writer")
		return one.Ready() && one.Container != first.Container
	})
}

// TestPortHeldThenFreed: who holds the port is said, and once it is free it is taken.
func TestPortHeldThenFreed(t *testing.T) {
	t.Parallel()
	byProcess, byContainer := standin("by-process", 0), standin("by-container", 0)
	byProcess.Ports = []envmgr.Port{{Host: 7311, Container: 8080}}
	byContainer.Ports = []envmgr.Port{{Host: 7312, Container: 8080}}
	b := newBed(t, dockertest.Shared(t, dockertest.Config{}), byProcess, byContainer)
	listener, err := b.engine.Listen(t.Context(), "tcp", "127.0.0.1:7311")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // closed below, unless the test has failed by then
	holder := b.engine.Run(t, dockertest.Run{Image: dockertest.Standin, Name: "port-holder", Args: []string{"listen=:80", "hang"}, Publish: "127.0.0.1:7312", Port: "80"})
	b.begin()
	b.up("by-process", "by-container")
	b.wait("both are told who is in the way", func(s envmgr.Snapshot) bool {
		process, _ := s.Of("by-process")
		container, _ := s.Of("by-container")
		return strings.Contains(process.Reason, "a process of its host") && strings.Contains(container.Reason, "container port-holder has port 7312")
	})
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	holder.Signal(t, "KILL")
	b.allReady()
}
