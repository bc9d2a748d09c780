package envmgr

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// TestReach: a service is asked where it is, on whichever machine and in whichever network
// that is; where there is no way to it that is said, with what to do.
func TestReach(t *testing.T) {
	t.Parallel()
	inside := docker.Service{Networks: map[string]netip.Addr{"n": netip.MustParseAddr("172.18.0.2")}}
	loop, open, one := inside, inside, inside
	loop.Ports = []docker.Published{{Address: "127.0.0.1", Host: 9000, Inside: 80, UDP: true}, {Address: "127.0.0.1", Host: 8000, Inside: 80}}
	open.Ports = []docker.Published{{Address: "0.0.0.0", Host: 8000, Inside: 80}}
	one.Ports = []docker.Published{{Address: "10.0.0.7", Host: 8000, Inside: 80}}
	host := docker.Service{HostNet: true}
	local, remote := reach{}, reach{inside: true, host: "lab7"}
	rootless, desktop := reach{engine: docker.Engine{Rootless: true}}, reach{engine: docker.Engine{Desktop: true}}
	podman := reach{engine: docker.Engine{Rootless: true, Podman: true}}
	for _, x := range []struct {
		what string
		r    reach
		s    docker.Service
		want string // an address, or a part of why there is none
	}{
		{"own address", local, loop, "172.18.0.2:80"},
		{"host's network", local, host, "127.0.0.1:80"},
		{"rootless, published", rootless, loop, "127.0.0.1:8000"},
		{"rootless, not published", rootless, inside, "only published ports are reached"},
		{"rootless, host's network", rootless, host, "a network apart"},
		{"Docker Desktop", desktop, open, "127.0.0.1:8000"},
		{"Docker Desktop, host's network", desktop, host, "a network apart"},
		{"rootless Podman", podman, inside, "only published ports are reached"},
		{"rootless Podman, host's network", podman, host, "127.0.0.1:80"},
		{"elsewhere, published to all", remote, open, "lab7:8000"},
		{"elsewhere, published there", remote, one, "10.0.0.7:8000"},
		{"elsewhere, its loopback", remote, loop, "the engine is on lab7"},
		{"elsewhere, host's network", remote, host, "lab7:80"},
		{"by options", reach{inside: true}, loop, "127.0.0.1:8000"},
	} {
		target, got := x.r.target(x.s), ""
		if target.Addr != nil {
			got = target.Addr(80)
		}
		if got == "" {
			got = probe.Run(t.Context(), probe.Spec{Kind: probe.TCP, Port: 80}, target).Detail
		}
		if !strings.Contains(got, x.want) {
			t.Errorf("%s: %q, want %q", x.what, got, x.want)
		}
	}
}
