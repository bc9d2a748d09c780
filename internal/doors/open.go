package doors

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// bindPatience bounds how long the look-up of a host's name may hold up the start.
const bindPatience = 5 * time.Second

// Open binds what is wanted. What was opened is undone by the teardowns that it has
// registered, also when it fails. The error is a mistake of the configuration.
func Open(ctx context.Context, o Options) (*Doors, error) {
	d := &Doors{opts: o, GRPC: Door{name: "gRPC", Wanted: o.GRPC}, HTTP: Door{name: "HTTP", Wanted: o.HTTP}}
	plans, err := d.plan()
	if err != nil {
		return nil, err
	}
	if len(plans) == 0 {
		return d, nil
	}
	guardErr := d.openGate()
	for _, p := range plans {
		err := errors.Join(p.fault, guardErr)
		if err == nil {
			err = d.openDoor(ctx, p)
		}
		if err != nil {
			o.Logger.Error("a door stays shut; the socket works", "door", p.door.name, "addr", p.door.Wanted.Addr, "error", err)
			p.door.status = "down: " + err.Error()
		}
	}
	return d, nil
}

// openGate begins to find out who connects.
func (d *Doors) openGate() error {
	owners, err := access.NewOwners()
	if err != nil {
		return fmt.Errorf("nobody can be let in over TCP: %w", err)
	}
	d.owners = owners
	d.opts.Teardown("owners of connections", func(context.Context) error { return owners.Close() })
	d.gate, err = access.NewGate(access.GateOptions{
		UID: uint32(os.Geteuid()), MetricsUIDs: d.opts.MetricsUIDs, Owners: owners,
		Logger: d.opts.Logger.With("component", "access"), MaxConns: d.opts.MaxConns,
	})
	return err
}

// doorPlan is where a door is to be, or why it stays shut.
type doorPlan struct {
	door *Door
	access.Plan
	fault error
}

// plan says where each door is to be.
func (d *Doors) plan() ([]doorPlan, error) {
	var plans []doorPlan
	for _, door := range []*Door{&d.GRPC, &d.HTTP} {
		if door.Wanted.Addr == "" {
			continue
		}
		p, err := d.planDoor(door)
		if err != nil {
			return nil, task.Errorf(task.CodeOf(err), "%s (%s): %w", door.Wanted.Key, door.Wanted.Source, err)
		}
		if p.Warning != "" {
			d.opts.Logger.Warn("look at the address of a door", "door", door.name, "warning", p.Warning)
		}
		plans = append(plans, p)
	}
	return plans, nil
}

// planDoor looks for the certificate and the token only where they would be used:
// what is wrong with them is of no concern to a door on loopback.
func (d *Doors) planDoor(door *Door) (doorPlan, error) {
	plan, err := access.ParsePlan(door.Wanted.Addr, true)
	if err != nil || !plan.TLS {
		return doorPlan{door: door, Plan: plan}, err
	}
	have, err := readSecrets(d.opts.AccessDir, uint32(os.Geteuid()), time.Now())
	switch {
	case err != nil: // it was secured; that it is not now must not open it any other way
		return doorPlan{door: door, Plan: plan, fault: err}, nil
	case have.cert != nil:
		d.Cert, d.Token = have.cert, have.token
		for _, warning := range []string{have.cert.Warning(time.Now()), have.cert.Mismatch(door.Wanted.Addr)} {
			if warning != "" {
				d.opts.Logger.Warn("look at the certificate for callers beyond loopback", "dir", d.opts.AccessDir, "warning", warning)
			}
		}
		return doorPlan{door: door, Plan: plan}, nil
	case have.half != "":
		d.opts.Logger.Warn("nothing is served beyond loopback", "door", door.name, "dir", d.opts.AccessDir, "reason", have.half)
	}
	plan, err = access.PlanWith(door.Wanted.Addr, have.lacks)
	return doorPlan{door: door, Plan: plan}, err
}

// openDoor binds one address, and guards it.
func (d *Doors) openDoor(ctx context.Context, p doorPlan) error {
	ctx, cancel := context.WithTimeout(ctx, bindPatience)
	defer cancel()
	door := p.door
	bound, err := access.Bind(ctx, p.Plan, uint32(os.Geteuid()), d.owners)
	if err != nil {
		return err
	}
	d.opts.Teardown(door.name, func(context.Context) error {
		// The server closes its listeners itself when it has run.
		if err := bound.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	door.Addr, door.hosts, door.status = bound.Addr.String(), append(bound.Hosts(), p.Hosts()...), "ok"
	if bound.Moved != nil {
		d.opts.Logger.Warn("the port is taken", "door", door.name, "moved", bound.Moved.String())
		door.status = "ok: " + bound.Moved.String()
	}
	for _, l := range bound.Listeners {
		if p.TLS {
			door.Listeners = append(door.Listeners, d.gate.TLS(l, d.Cert.ServerTLS()))
		} else {
			door.Listeners = append(door.Listeners, d.gate.Loopback(l))
		}
	}
	return nil
}
