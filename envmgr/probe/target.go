package probe

import (
	"context"
	"net"
	"strconv"
	"time"
)

// Target is where a service is.
type Target struct {
	// Container is its ID, for exec and health.
	Container string
	// Engine is asked for exec and health.
	Engine Engine
	// Addr is where a port of the container is reached, as IP:port: at the container's
	// own address where this machine has a way there, else where it is published. ""
	// says that there is no such place: the container does not run, or does not publish
	// the port.
	Addr func(port int) string
	// NoWay is why Addr has no place for a port of a container that runs, and what to do;
	// "" = nobody knows. Without Addr it is true of all ports.
	NoWay string
	// Published says that what Addr returns is a published port. What accepts there may
	// be the engine's proxy.
	Published bool
	// Hold is how long a connection that such a proxy may have accepted must stay open for
	// a tcp probe: 100 ms unless given, and half of the timeout at most.
	Hold time.Duration
	// Dial connects, as net.Dialer does, where that takes more than this machine's own
	// network; nil = it does not.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Engine is what a probe needs of a container engine. Its calls return soon after
// their context has ended, and what they return as text is bounded.
type Engine interface {
	// Exec runs a command in a container, and returns its exit code and output.
	Exec(ctx context.Context, containerID string, command []string) (exit int, output string, err error)
	// Health returns what the container's own health check says ("starting", "healthy",
	// "unhealthy"; "none" or "" where it has none), and its last output.
	Health(ctx context.Context, containerID string) (status, lastOutput string, err error)
}

// hold is how long a connection must stay open; nothing, where no proxy can be.
func (t Target) hold(s Spec) time.Duration {
	switch {
	case s.Host == "" && !t.Published:
		return 0
	case t.Hold > 0:
		return min(t.Hold, s.timeout()/2)
	}
	return MinTimeout / 2
}

// addr is where the spec's port is.
func (t Target) addr(s Spec) (string, error) {
	port := s.port()
	if s.Host != "" {
		return net.JoinHostPort(s.Host, strconv.Itoa(port)), nil
	}
	addr := ""
	if t.Addr != nil {
		addr = t.Addr(port)
	}
	if addr == "" && t.NoWay != "" {
		return "", fail(ErrUnreachable, nil, "port %d of the container cannot be asked: %s", port, t.NoWay)
	}
	if addr == "" {
		return "", fail(ErrUnreachable, nil, "port %d of the container cannot be reached: it does not run, or does not publish that port", port)
	}
	return addr, nil
}
