package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/api"
)

// doors are the TCP listeners beside the Unix socket: gRPC, and HTTP. The socket
// does all that the command line needs, so a door that cannot be opened does not
// keep the daemon from its tasks; why it is shut is told by Health and doctor.
type doors struct {
	grpc, http door
	gate       *access.Gate
	token      access.Token
	cert       *access.Certificate // nil: nothing is served beyond loopback
}

// door is one of them.
type door struct {
	listeners []net.Listener // guarded
	addr      string         // HOST:PORT that a program of this host dials; "" = it is shut
	status    string         // for Health: "ok", "off", or what is wrong
}

// openDoors binds what the configuration asks for, and tells owner.json.
func (a *App) openDoors(ctx context.Context) error {
	d := &a.doors
	d.grpc.status, d.http.status = "off", "off"
	if a.conf.GRPCListen == "" && a.conf.HTTPListen == "" {
		return nil
	}
	owners, err := access.NewOwners()
	if err != nil {
		return fmt.Errorf("find out who connects: %w", err)
	}
	a.down.push("owners of connections", func(context.Context) error { return owners.Close() })
	d.gate, err = access.NewGate(access.GateOptions{
		UID: uint32(os.Geteuid()), MetricsUIDs: a.conf.Access.MetricsAllowUIDs, Owners: owners,
		Logger: a.log.With("component", "access"),
	})
	if errors.Is(err, access.ErrAmbiguousUser) {
		a.log.Warn("no TCP: other users cannot be told from this one; the socket works", "error", err)
		d.grpc.status = "down: " + err.Error()
		d.http.status = d.grpc.status
		return nil
	}
	if err != nil {
		return err
	}
	if err := a.readSecrets(); err != nil {
		return err
	}
	for _, of := range []struct {
		name, at string
		door     *door
	}{{"gRPC", a.conf.GRPCListen, &d.grpc}, {"HTTP", a.conf.HTTPListen, &d.http}} {
		if err := a.openDoor(ctx, of.name, of.at, of.door, owners); err != nil {
			return err
		}
	}
	return a.queue.Announce(d.grpc.addr, d.http.addr)
}

// readSecrets reads the certificate and the token. Both or neither are there.
func (a *App) readSecrets() error {
	dir, uid := a.conf.AccessDir(), uint32(os.Geteuid())
	if dir == "" {
		return nil
	}
	cert, certErr := access.ServerCertificate(filepath.Join(dir, access.CertFile), filepath.Join(dir, access.KeyFile), uid, time.Now())
	token, tokenErr := access.ReadToken(filepath.Join(dir, access.TokenFile), uid)
	for _, err := range []error{certErr, tokenErr} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	switch {
	case certErr == nil && tokenErr == nil:
		a.doors.cert, a.doors.token = cert, token
		if warning := cert.Warning(time.Now()); warning != "" {
			a.log.Warn("look at the certificate for callers beyond loopback", "dir", dir, "warning", warning)
		}
	case certErr == nil:
		a.log.Warn("there is a certificate and no token, so nothing is served beyond loopback; make one with: dspy-agent access token", "dir", dir)
	case tokenErr == nil:
		a.log.Warn("there is a token and no certificate, so nothing is served beyond loopback; make one with: dspy-agent access tls", "dir", dir)
	}
	return nil
}

// openDoor binds one address, and guards it.
func (a *App) openDoor(ctx context.Context, name, at string, d *door, owners *access.Owners) error {
	if at == "" {
		return nil
	}
	plan, err := access.ParsePlan(at, a.doors.cert != nil)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if plan.Warning != "" {
		a.log.Warn("look at the address of a door", "door", name, "warning", plan.Warning)
	}
	bound, err := access.Bind(ctx, plan, uint32(os.Geteuid()), owners)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a.down.push(name, func(context.Context) error {
		// The server closes its listeners itself when it has run.
		if err := bound.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	d.addr, d.status = bound.Addr.String(), "ok"
	if bound.Moved != nil {
		a.log.Warn("the port is taken", "door", name, "moved", bound.Moved.String())
		d.status = "ok: " + bound.Moved.String()
	}
	for _, l := range bound.Listeners {
		if plan.TLS {
			d.listeners = append(d.listeners, a.doors.gate.TLS(l, a.doors.cert.ServerTLS()))
		} else {
			d.listeners = append(d.listeners, a.doors.gate.Loopback(l))
		}
	}
	return nil
}

// newHTTP makes the HTTP server over the server of calls.
func (a *App) newHTTP() (*api.HTTPServer, error) {
	hosts := a.conf.Access.HTTPHosts
	if a.doors.cert != nil {
		hosts = append(hosts, a.doors.cert.Hosts()...)
	}
	token, browser := access.TokenGuard{Token: a.doors.token, UID: uint32(os.Geteuid())}, access.Guard{Hosts: hosts}
	return api.NewHTTP(a.server, api.HTTPOptions{
		ConnContext: access.ConnContext,
		Guard:       func(next http.Handler) http.Handler { return browser.Wrap(token.Wrap(next)) },
		Peer: func(r *http.Request) (api.Peer, bool) {
			p, ok := access.PeerFrom(r.Context())
			return api.Peer{UID: p.UID}, ok
		},
	})
}
