package api_test

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/api"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// tcpDoor serves the fixture's queue at an address as well, behind a gate, and
// returns where.
func (f *fixture) tcpDoor(at string, cert *access.Certificate, token access.Token) string {
	f.t.Helper()
	owners, err := access.NewOwners()
	if err != nil {
		f.t.Fatal(err)
	}
	gate, err := access.NewGate(access.GateOptions{UID: uint32(os.Geteuid()), Owners: owners, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.t.Fatal(err)
	}
	lis, err := net.Listen("tcp", at)
	if err != nil {
		f.t.Fatal(err)
	}
	guarded := gate.Loopback(lis)
	if cert != nil {
		guarded = gate.TLS(lis, cert.ServerTLS())
	}
	opts := f.options()
	opts.Token = token
	srv, err := api.New(opts)
	if err != nil {
		f.t.Fatal(err)
	}
	stop := running(srv, guarded)
	f.t.Cleanup(func() {
		if err := stop(); err != nil {
			f.t.Errorf("serve: %v", err)
		}
		_ = owners.Close()
	})
	return lis.Addr().String()
}

// submitted submits by a client and returns by which door the task came.
func (f *fixture) submitted(c pb.OrchestratorServiceClient, id string) string {
	f.t.Helper()
	if _, err := c.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Id: id}); err != nil {
		f.t.Fatal(err)
	}
	return f.lookup(id).Spec.Via
}

// TestLoopback: our client, and one of the field's that knows nothing of us, come
// in by plain TCP.
func TestLoopback(t *testing.T) {
	f := setup(t)
	addr := f.tcpDoor("127.0.0.1:0", nil, access.Token{})
	ours, err := api.Dial(t.Context(), api.Target{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	plain, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for id, c := range map[string]pb.OrchestratorServiceClient{"ours": ours, "plain": pb.NewOrchestratorServiceClient(plain)} {
		if via := f.submitted(c, id); via != "grpc" {
			t.Errorf("%s came by %q", id, via)
		}
	}
}

// TestTLS: with the certificate and the token one comes in, with anything less not.
func TestTLS(t *testing.T) {
	f := setup(t)
	dir, uid, now := filepath.Join(shortDir(t), "access"), uint32(os.Geteuid()), time.Now()
	for _, err := range []error{access.MakeCertificate(dir, uid, []string{"localhost"}, now, false), access.MakeToken(dir, uid, false)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cert, err := access.ServerCertificate(filepath.Join(dir, access.CertFile), filepath.Join(dir, access.KeyFile), uid, now)
	if err != nil {
		t.Fatal(err)
	}
	token, err := access.ReadToken(filepath.Join(dir, access.TokenFile), uid)
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(f.tcpDoor("127.0.0.1:0", cert, token))
	if err != nil {
		t.Fatal(err)
	}
	c, err := api.Dial(t.Context(), api.Target{Addr: ":" + port, Cert: cert, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if via := f.submitted(c, "tls"); via != "grpc" {
		t.Errorf("it came by %q", via)
	}
	wrong, err := api.Dial(t.Context(), api.Target{Addr: ":" + port, Cert: cert})
	if err == nil {
		_, err = wrong.SubmitTask(t.Context(), &pb.SubmitTaskRequest{Id: "wrong"})
		_ = wrong.Close()
	}
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("without the token: %v", err)
	}
}
