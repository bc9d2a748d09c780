package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// doors are the TCP listeners beside the Unix socket: gRPC, and HTTP. The socket
// does all that the command line needs, so a door that cannot be opened stays shut
// and does not keep the daemon from its tasks: a port that is root's, a name that
// nobody knows, a certificate that has expired, a kernel that does not tell who
// connects. Why it is shut is told by Health, the start and doctor. What is wrong
// however the host is (no address; one beyond loopback, and nothing to secure it
// with) is a mistake of the configuration, and refused.
type doors struct {
	grpc, http door
	owners     *access.Owners
	gate       *access.Gate
	token      access.Token
	cert       *access.Certificate // nil: nothing is served beyond loopback
}

// door is one of them.
type door struct {
	name, key string         // for people; of the configuration
	wanted    string         // HOST:PORT; "" = it is off
	listeners []net.Listener // guarded
	addr      string         // HOST:PORT that a program of this host dials; "" = it is shut
	hosts     []string       // by which programs may call it
	status    string         // for Health: "ok", "off", or what is wrong
}

// bindPatience bounds how long the look-up of a host's name may hold up the start.
const bindPatience = 5 * time.Second

// openDoors binds what the configuration asks for, and tells owner.json.
func (a *App) openDoors(ctx context.Context) error {
	d := &a.doors
	d.grpc = door{name: "gRPC", key: "grpc_addr", wanted: a.conf.GRPCListen, status: "off"}
	d.http = door{name: "HTTP", key: "http_addr", wanted: a.conf.HTTPListen, status: "off"}
	if a.drain != nil {
		return nil // it is there for moments: programs that want a door want a daemon
	}
	plans, err := a.planDoors()
	if err != nil || len(plans) == 0 {
		return err
	}
	guardErr := a.openGate()
	for _, p := range plans {
		err := errors.Join(p.fault, guardErr)
		if err == nil {
			err = a.openDoor(ctx, p)
		}
		if err != nil {
			a.log.Error("a door stays shut; the socket works", "door", p.door.name, "addr", p.door.wanted, "error", err)
			p.door.status = "down: " + err.Error()
		}
	}
	return a.queue.Announce(d.grpc.addr, d.http.addr)
}

// openGate begins to find out who connects.
func (a *App) openGate() error {
	owners, err := access.NewOwners()
	if err != nil {
		return fmt.Errorf("nobody can be let in over TCP: %w", err)
	}
	a.doors.owners = owners
	a.down.push("owners of connections", func(context.Context) error { return owners.Close() })
	a.doors.gate, err = access.NewGate(access.GateOptions{
		UID: uint32(os.Geteuid()), MetricsUIDs: a.conf.Access.MetricsAllowUIDs, Owners: owners,
		Logger: a.log.With("component", "access"), MaxConns: a.conf.Limits.MaxConnections,
	})
	return err
}

// doorPlan is where a door is to be, or why it stays shut.
type doorPlan struct {
	door *door
	access.Plan
	fault error
}

// planDoors says where each door is to be. The error is a mistake of the
// configuration.
func (a *App) planDoors() ([]doorPlan, error) {
	var plans []doorPlan
	for _, d := range []*door{&a.doors.grpc, &a.doors.http} {
		if d.wanted == "" {
			continue
		}
		p, err := a.planDoor(d)
		if err != nil {
			return nil, task.Errorf(task.CodeOf(err), "%s (%s): %w", d.key, a.conf.Source(d.key), err)
		}
		if p.Warning != "" {
			a.log.Warn("look at the address of a door", "door", d.name, "warning", p.Warning)
		}
		plans = append(plans, p)
	}
	return plans, nil
}

// planDoor looks for the certificate and the token only where they would be used:
// what is wrong with them is of no concern to a door on loopback.
func (a *App) planDoor(d *door) (doorPlan, error) {
	plan, err := access.ParsePlan(d.wanted, true)
	if err != nil || !plan.TLS {
		return doorPlan{door: d, Plan: plan}, err
	}
	have, err := readSecrets(a.conf.AccessDir(), uint32(os.Geteuid()), time.Now())
	switch {
	case err != nil: // it was secured; that it is not now must not open it any other way
		return doorPlan{door: d, Plan: plan, fault: err}, nil
	case have.cert != nil:
		a.doors.cert, a.doors.token = have.cert, have.token
		for _, warning := range []string{have.cert.Warning(time.Now()), have.cert.Mismatch(d.wanted)} {
			if warning != "" {
				a.log.Warn("look at the certificate for callers beyond loopback", "dir", a.conf.AccessDir(), "warning", warning)
			}
		}
		return doorPlan{door: d, Plan: plan}, nil
	case have.half != "":
		a.log.Warn("nothing is served beyond loopback", "door", d.name, "dir", a.conf.AccessDir(), "reason", have.half)
	}
	plan, err = access.PlanWith(d.wanted, have.lacks)
	return doorPlan{door: d, Plan: plan}, err
}

// openDoor binds one address, and guards it.
func (a *App) openDoor(ctx context.Context, p doorPlan) error {
	ctx, cancel := context.WithTimeout(ctx, bindPatience)
	defer cancel()
	d := p.door
	bound, err := access.Bind(ctx, p.Plan, uint32(os.Geteuid()), a.doors.owners)
	if err != nil {
		return err
	}
	a.down.push(d.name, func(context.Context) error {
		// The server closes its listeners itself when it has run.
		if err := bound.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	d.addr, d.hosts, d.status = bound.Addr.String(), append(bound.Hosts(), p.Hosts()...), "ok"
	if bound.Moved != nil {
		a.log.Warn("the port is taken", "door", d.name, "moved", bound.Moved.String())
		d.status = "ok: " + bound.Moved.String()
	}
	for _, l := range bound.Listeners {
		if p.TLS {
			d.listeners = append(d.listeners, a.doors.gate.TLS(l, a.doors.cert.ServerTLS()))
		} else {
			d.listeners = append(d.listeners, a.doors.gate.Loopback(l))
		}
	}
	return nil
}

// newHTTP makes the HTTP server over the server of calls.
func (a *App) newHTTP() (*api.HTTPServer, error) {
	hosts := slices.Concat(a.conf.Access.HTTPHosts, a.doors.http.hosts)
	if a.doors.cert != nil {
		hosts = append(hosts, a.doors.cert.Hosts()...)
	}
	token, browser := access.TokenGuard{Token: a.doors.token, UID: uint32(os.Geteuid())}, access.Guard{Hosts: hosts}
	return api.NewHTTP(a.server, rpc.HTTPOptions{
		ConnContext: access.ConnContext,
		Guard:       func(next http.Handler) http.Handler { return browser.Wrap(token.Wrap(next)) },
		Peer:        rpc.GatePeer,
	})
}
