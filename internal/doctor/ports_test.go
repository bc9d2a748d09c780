package doctor

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/access"
)

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, l.Close())
	return l.Addr().String()
}

// stranger is the uid under which a child listens, and how it is started.
func stranger(t *testing.T, at string) (uid int, l listener) {
	t.Helper()
	uid = os.Geteuid()
	if uid == 0 {
		uid = nobody
	}
	return uid, listen(t, "tcp", at, asNobody())
}

// asSomebodyElse makes a listener of our own uid a stranger where we cannot make one.
func asSomebodyElse(p Patient) Patient {
	if os.Geteuid() != 0 {
		p.UID++
	}
	return p
}

func TestPorts(t *testing.T) {
	at := freePort(t)
	p := patient(t, "ORCHESTRATOR_HTTP_ADDR="+at, "ORCHESTRATOR_GRPC_ADDR=none")
	want(t, "ports", p, OK, "HTTP: "+at+" is free")
	want(t, "ports", p, OK, "gRPC: off")
	l, err := net.Listen("tcp", at)
	must(t, err)
	defer l.Close()
	want(t, "ports", p, Warning, "HTTP: "+at+" is held by another program of yours", "the daemon will take another port", "http_addr")

	o := ourselves(t)
	o.HTTP = at
	want(t, "ports", p.ownedBy(o), OK, "HTTP: the daemon listens at "+at)
	o.HTTP = freePort(t)
	want(t, "ports", p.ownedBy(o), Problem, "nobody does", "dspy-agent stop")
	o.HTTP = ""
	want(t, "ports", p.ownedBy(o), Warning, "does not serve "+at, "started without it")
	want(t, "ports", p.ownedBy(o).healthy(Health{Parts: map[string]string{"http": "down: other users look like us"}}), Warning, "other users look like us")
	o.HTTP = "garbage"
	want(t, "ports", p.ownedBy(o), Warning, `"garbage", which is no address`)
}

func TestPortOfAnotherUser(t *testing.T) {
	uid, l := stranger(t, "127.0.0.1:0")
	p := asSomebodyElse(patient(t, "ORCHESTRATOR_HTTP_ADDR="+l.addr))
	want(t, "ports", p, Warning, fmt.Sprintf("HTTP: %s is held by uid %d", l.addr, uid), "the daemon will take another port")

	// A daemon has moved, and listens somewhere of its own.
	mine, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer mine.Close()
	o := ourselves(t)
	o.HTTP = mine.Addr().String()
	if os.Geteuid() == 0 { // else both are of one uid
		_, port, _ := net.SplitHostPort(l.addr)
		want(t, "ports", p.ownedBy(o), Warning, "port "+port+" was taken when the daemon began", fmt.Sprintf("held by uid %d", uid), "set ORCHESTRATOR_HTTP_ADDR="+o.HTTP)
		o.HTTP = l.addr
		want(t, "ports", p.ownedBy(o), Problem, fmt.Sprintf("listens at %s, and uid %d", l.addr, uid))
	}
}

func TestPortOfOneFamily(t *testing.T) {
	_, l := stranger(t, "[::1]:0")
	_, port, err := net.SplitHostPort(l.addr)
	must(t, err)
	want(t, "ports", asSomebodyElse(patient(t, "ORCHESTRATOR_HTTP_ADDR=127.0.0.1:"+port)), Warning, "[::1]:"+port+" is held by uid")
}

func TestPortsThatCannotBe(t *testing.T) {
	p := patient(t, "ORCHESTRATOR_HTTP_ADDR=10.0.0.1:5000")
	want(t, "ports", p, Problem, "needs TLS and a token", "dspy-agent access tls", "mend http_addr")
	p = patient(t, "ORCHESTRATOR_HTTP_ADDR=:5000")
	want(t, "ports", p, Warning, "without TLS means loopback")
	p = patient(t, "ORCHESTRATOR_HTTP_ADDR=127.0.0.1:80")
	p.UID = 1000
	p.Root = t.TempDir() // where nobody has changed what is for root
	want(t, "ports", p, Problem, "HTTP: port 80 is for root", "a port from 1024 up")
	p = patient(t, "ORCHESTRATOR_GRPC_ADDR=127.0.0.1:5001")
	want(t, "ports", p, Note, "commands call 127.0.0.1:5001 instead of the workspace's socket", "unset it")
}

// TestCertificateForAnotherHost: all is there, and no client would take it.
func TestCertificateForAnotherHost(t *testing.T) {
	p := patient(t, "ORCHESTRATOR_HTTP_ADDR=192.0.2.2:9443")
	dir, uid := p.Load().Config.AccessDir(), uint32(p.UID)
	must(t, access.MakeCertificate(dir, uid, []string{"h"}, time.Now(), false))
	want(t, "ports", p, Problem, "make the token with: dspy-agent access token")
	must(t, access.MakeToken(dir, uid, false))
	want(t, "access", p, Warning, "the certificate is not for 192.0.2.2", "dspy-agent access tls --force h 192.0.2.2")
	must(t, access.MakeCertificate(dir, uid, []string{"192.0.2.2"}, time.Now(), true))
	want(t, "access", p, OK, "are ours alone")
}

func TestPortWithTLS(t *testing.T) {
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	must(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	p := patient(t, "ORCHESTRATOR_HTTP_ADDR=0.0.0.0:"+port)
	dir := p.Load().Config.AccessDir()
	must(t, access.MakeCertificate(dir, uint32(p.UID), []string{"h"}, time.Now(), false))
	must(t, access.MakeToken(dir, uint32(p.UID), false))
	want(t, "ports", p, Problem, "is held by another program of yours, so the daemon will not serve it", "free the port")
}

func TestAccess(t *testing.T) {
	const day = 24 * time.Hour
	p := patient(t)
	dir, uid := p.Load().Config.AccessDir(), uint32(p.UID)
	want(t, "access", p, OK, "no certificate and no token")
	must(t, access.MakeToken(dir, uid, false))
	want(t, "access", p, Warning, "a token and no certificate", "dspy-agent access tls")
	must(t, access.MakeCertificate(dir, uid, []string{"h"}, time.Now(), false))
	want(t, "access", p, OK, "are ours alone")

	key := filepath.Join(dir, access.KeyFile)
	must(t, os.Chmod(key, 0o644)) //nolint:gosec // that is the point
	want(t, "access", p, Problem, "is open to others (mode 0644)", "chmod 600 "+key, "beyond loopback nothing is served")
	must(t, os.Chmod(key, 0o600))
	must(t, os.Chmod(dir, 0o777)) //nolint:gosec // that is the point
	want(t, "access", p, Problem, "is open to others (mode 0777)")
	must(t, os.Chmod(dir, 0o700)) //nolint:gosec // a folder

	must(t, access.MakeCertificate(dir, uid, []string{"h"}, time.Now().Add(-710*day), true))
	want(t, "access", p, Warning, "the certificate ends on", "dspy-agent access tls --force")
	must(t, access.MakeCertificate(dir, uid, []string{"h"}, time.Now().Add(-1000*day), true))
	want(t, "access", p, Problem, "the certificate ended on", "dspy-agent access tls --force")

	must(t, access.MakeCertificate(dir, uid, []string{"h"}, time.Now(), true))
	must(t, os.Remove(filepath.Join(dir, access.KeyFile)))
	want(t, "access", p, OK, "the certificate of another host")
	must(t, access.MakeCertificate(dir, uid, []string{"h"}, time.Now(), true))
	must(t, os.WriteFile(filepath.Join(dir, access.TokenFile), []byte("half"), 0o600))
	want(t, "access", p, Problem, "has no whole token")
	must(t, os.Remove(filepath.Join(dir, access.TokenFile)))
	want(t, "access", p, Warning, "a certificate and no token", "dspy-agent access token")

	homeless := patient(t, "HOME=")
	want(t, "access", homeless, Note, "HOME is not set", "access.dir")
}
