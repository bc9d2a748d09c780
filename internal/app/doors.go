package app

import (
	"context"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/doors"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
)

// openDoors binds what the configuration asks for, and tells owner.json.
func (a *App) openDoors(ctx context.Context) error {
	if a.drain != nil {
		return nil // it is there for moments: programs that want a door want a daemon
	}
	wanted := func(addr, key string) doors.Wanted {
		return doors.Wanted{Addr: addr, Key: key, Source: a.conf.Source(key).String()}
	}
	opened, err := doors.Open(ctx, doors.Options{
		GRPC: wanted(a.conf.GRPCListen, "grpc_addr"), HTTP: wanted(a.conf.HTTPListen, "http_addr"),
		AccessDir: a.conf.AccessDir(), MaxConns: a.conf.Limits.MaxConnections, MetricsUIDs: a.conf.Access.MetricsAllowUIDs,
		Logger: a.log, Teardown: a.down.push,
	})
	if err != nil {
		return err
	}
	a.doors = *opened
	if a.conf.GRPCListen == "" && a.conf.HTTPListen == "" {
		return nil
	}
	return a.queue.Announce(a.doors.GRPC.Addr, a.doors.HTTP.Addr)
}

// newHTTP makes the HTTP server over the server of calls.
func (a *App) newHTTP() (*api.HTTPServer, error) {
	return api.NewHTTP(a.server, rpc.HTTPOptions{
		ConnContext: access.ConnContext,
		Guard:       a.doors.GuardHTTP(a.conf.Access.HTTPHosts),
		Peer:        rpc.GatePeer,
	})
}
