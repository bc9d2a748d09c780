package api_test

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// TestPair: calls over a pair are answered like those through the socket, from a peer
// that the kernel names; and there is one connection, and never another.
func TestPair(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var who rpc.Peer
	opts := f.options()
	opts.Mover = peerMover{mover{q: f.q}, &who}
	srv, err := api.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	conn, lis, err := rpc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	stop := running(srv, lis)
	c, err := api.Dial(t.Context(), api.Target{Conn: conn})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.SubmitTask(t.Context(), &pb.SubmitTaskRequest{Id: "a", Spec: &pb.TaskSpec{Argv: []string{"true"}}})
	if err != nil || !answer.GetSuccess() {
		t.Fatalf("submit: %v %v", answer, err)
	}
	if _, err := c.ExplainTask(t.Context(), &pb.ExplainTaskRequest{TaskId: "a"}); err != nil {
		t.Fatal(err)
	}
	if want := (rpc.Peer{UID: uint32(os.Geteuid()), PID: int32(os.Getpid()), Via: "socket"}); who != want {
		t.Errorf("the peer is %+v, want %+v", who, want)
	}
	if err := stop(); err != nil {
		t.Errorf("serve: %v", err)
	}
	if _, err := c.Health(t.Context(), &pb.HealthRequest{}); task.CodeOf(err) != task.CodeUnavailable {
		t.Errorf("a call after the end: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection is open after the client was closed: %v", err)
	}
}

// peerMover notes who asks.
type peerMover struct {
	mover
	who *rpc.Peer
}

func (m peerMover) Explain(ctx context.Context, id string) (string, task.Task, error) {
	*m.who, _ = rpc.PeerFrom(ctx)
	return m.mover.Explain(ctx, id)
}

// TestPairUnused: a pair that nobody has used leaves nothing.
func TestPairUnused(t *testing.T) {
	t.Parallel()
	conn, lis, err := rpc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a listener may be closed again
		if err := lis.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := lis.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes from an end that was closed", n)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

// TestPairIsPatient: who makes the calls may be stopped before the first, with the server, for
// longer than any other client may be silent. It goes on as if nothing had been.
func TestPairIsPatient(t *testing.T) {
	t.Parallel()
	opts := setup(t).options()
	opts.Pair = true
	srv, err := api.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	conn, lis, err := rpc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	stop := running(srv, lis)
	// A server that counts the time closes the connection, which ends the read.
	if err := conn.SetReadDeadline(time.Now().Add(11 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 1<<10); err == nil; {
		_, err = conn.Read(b) // its greeting
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection has ended: %v", err)
	}
	if err := errors.Join(conn.Close(), stop()); err != nil {
		t.Error(err)
	}
}
