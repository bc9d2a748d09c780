package api_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
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
func (f *fixture) tcpDoor(at string, cert *access.Certificate, token access.Token, change ...func(*api.Options)) string {
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
	for _, c := range change {
		c(&opts)
	}
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

// secured serves the fixture's queue by TLS as well.
func (f *fixture) secured(change ...func(*api.Options)) (addr string, cert *access.Certificate, token access.Token) {
	f.t.Helper()
	dir, uid, now := filepath.Join(shortDir(f.t), "access"), uint32(os.Geteuid()), time.Now()
	for _, err := range []error{access.MakeCertificate(dir, uid, []string{"localhost"}, now, false), access.MakeToken(dir, uid, false)} {
		if err != nil {
			f.t.Fatal(err)
		}
	}
	cert, err := access.ServerCertificate(filepath.Join(dir, access.CertFile), filepath.Join(dir, access.KeyFile), uid, now)
	if err != nil {
		f.t.Fatal(err)
	}
	token, err = access.ReadToken(filepath.Join(dir, access.TokenFile), uid)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.tcpDoor("127.0.0.1:0", cert, token, change...), cert, token
}

// TestTLS: with the certificate and the token one comes in, with anything less not.
func TestTLS(t *testing.T) {
	f := setup(t)
	addr, cert, token := f.secured()
	_, port, err := net.SplitHostPort(addr)
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

// TestNothingIsReadWithoutToken begins a call of which nothing but the header ever
// comes: without the token that is enough to refuse it.
func TestNothingIsReadWithoutToken(t *testing.T) {
	f := setup(t)
	addr, cert, _ := f.secured()
	conf := cert.ClientTLS()
	conf.ServerName, conf.NextProtos = "localhost", []string{"h2"}
	conn, err := (&tls.Dialer{Config: conf}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(h2Call(pb.OrchestratorService_SubmitTask_FullMethodName)); err != nil {
		t.Fatal(err)
	}
	frames := http2.NewFramer(nil, conn)
	frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := frames.ReadFrame()
		if err != nil {
			t.Fatalf("no answer to the header of a call without a token: %v", err)
		}
		if h, ok := frame.(*http2.MetaHeadersFrame); ok {
			for _, field := range h.RegularFields() {
				if field.Name == "grpc-status" && field.Value != "16" {
					t.Errorf("it was answered with status %s", field.Value)
				}
			}
			return
		}
	}
}

// TestCallsOfAConnectionAreBounded: a client is told at the start how many calls
// it may have under way, and how long their headers may be.
func TestCallsOfAConnectionAreBounded(t *testing.T) {
	f := setup(t)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(h2Call(pb.OrchestratorService_Health_FullMethodName)); err != nil {
		t.Fatal(err)
	}
	frame, err := http2.NewFramer(nil, conn).ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok {
		t.Fatalf("the server began with %v", frame)
	}
	for id, want := range map[http2.SettingID]uint32{http2.SettingMaxConcurrentStreams: 1000, http2.SettingMaxHeaderListSize: 64 << 10} {
		if got, _ := settings.Value(id); got != want {
			t.Errorf("%s is %d, want %d", id, got, want)
		}
	}
}

// h2Call is what a client of HTTP/2 sends first, with the header of one call.
func h2Call(method string, messages ...[]byte) []byte {
	var header, out bytes.Buffer
	enc := hpack.NewEncoder(&header)
	for _, field := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: method},
		{Name: ":authority", Value: "localhost"}, {Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	} {
		_ = enc.WriteField(field) // into memory
	}
	out.WriteString(http2.ClientPreface)
	frames := http2.NewFramer(&out, nil)
	_ = frames.WriteSettings()
	_ = frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header.Bytes(), EndHeaders: true})
	for i, m := range messages {
		framed := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
		_ = frames.WriteData(1, i == len(messages)-1, framed)
	}
	return out.Bytes()
}
