package envmgr

import (
	"net"
	"net/netip"
	"strconv"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// target is where the container of a service is reached.
func (c *care) target(s docker.Service) probe.Target {
	t := reach{engine: c.engine, inside: c.opts.Inside, host: c.opts.EngineHost}.target(s)
	t.Container, t.Engine, t.Dial = s.ID, execs{c.opts.Engine}, c.opts.Dial
	return t
}

// reach is what there is between us and the containers of an engine.
type reach struct {
	engine docker.Engine
	inside bool   // as in Options
	host   string // the engine's, where that is another machine; "" = it is this one
}

// apart says that containers have a network of their own, into which only published ports
// lead: that of a virtual machine, or of the namespace of a user. Podman's containers on
// the host's network are on the host's, even where it is rootless.
func (r reach) apart() bool { return r.engine.Desktop || r.engine.Rootless }

const here = "127.0.0.1"

func (r reach) target(s docker.Service) probe.Target {
	switch {
	case s.HostNet && (r.engine.Desktop || r.engine.Rootless && !r.engine.Podman):
		return probe.Target{NoWay: "it uses the host's network, and the host of this engine is a network apart, which is not reached from here; leave host out, and publish the port"}
	case s.HostNet:
		host := r.host
		if host == "" {
			host = here
		}
		return probe.Target{Addr: func(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }}
	case !r.inside && !r.apart() && r.host == "":
		for _, ip := range s.Networks {
			if ip.IsValid() {
				return probe.Target{Addr: func(port int) string { return netip.AddrPortFrom(ip, uint16(port)).String() }}
			}
		}
	}
	t := probe.Target{Published: true, NoWay: "of this engine's containers only published ports are reached from here, and that one is not published; publish it (ports)"}
	if r.host != "" {
		t.NoWay = "the engine is on " + r.host + ", and the port is not published there on an address that is reached from here; publish it (ports) on another one than 127.0.0.1"
	}
	t.Addr = func(port int) string {
		for _, p := range s.Ports {
			if host := r.dialable(p.Address); p.Inside == port && !p.UDP && host != "" {
				return net.JoinHostPort(host, strconv.Itoa(p.Host))
			}
		}
		return ""
	}
	return t
}

// dialable is where what is bound to an address of the engine's host is reached; "" =
// nowhere.
func (r reach) dialable(bound string) string {
	ip, err := netip.ParseAddr(bound)
	switch {
	case err != nil || ip.IsUnspecified():
		if r.host != "" {
			return r.host
		}
		return here
	case ip.IsLoopback() && r.host != "":
		return "" // it is that machine's own
	default:
		return bound
	}
}
