package api_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// maxFuzz bounds an input, so that all of it fits between two ends that do not
// wait for one another.
const maxFuzz = 64 << 10

// halfClosing is a connection whose writing side can be closed alone.
type halfClosing interface {
	net.Conn
	CloseWrite() error
}

// sendAll sends bytes and nothing more, and returns what comes back until the
// server closes the connection, which it has to.
func sendAll(t *testing.T, network, addr string, data []byte) []byte {
	t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatalf("nobody answers any more: %v", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// What the server closes before it has read all of it fails; the answer counts.
	_, _ = conn.Write(data)
	_ = conn.(halfClosing).CloseWrite()
	got, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the server neither answers nor closes the connection after %d bytes", len(data))
	}
	return got
}

// FuzzGRPCFrames sends whatever it is given to a real server, in place of HTTP/2:
// the server closes the connection, and goes on to serve others.
func FuzzGRPCFrames(f *testing.F) {
	fix := setup(f)
	task, err := proto.Marshal(&pb.SubmitTaskRequest{Id: "a", Spec: &pb.TaskSpec{Argv: []string{"true"}}})
	if err != nil {
		f.Fatal(err)
	}
	whole := h2Call(pb.OrchestratorService_SubmitTask_FullMethodName, task)
	for _, seed := range [][]byte{
		nil, []byte("GET / HTTP/1.1\r\n\r\n"), whole, whole[:len(whole)-3], whole[:24], whole[24:],
		h2Call(pb.OrchestratorService_SubmitTask_FullMethodName, []byte("\xde\xad\xbe\xef")),
		h2Call(pb.OrchestratorService_SubmitTaskStream_FullMethodName, task, nil, task),
		h2Call(pb.OrchestratorService_StreamTaskResults_FullMethodName, nil),
		h2Call(pb.OrchestratorService_StreamEvents_FullMethodName, []byte{0x10, 0x01}),
		h2Call("/no.such.Service/Method", nil), h2Call("no slash"),
		append(slices.Clip(whole), whole[24:]...),
		append(slices.Clip(whole), 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0xff),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFuzz {
			return
		}
		sendAll(t, "unix", fix.socket, data)
		if _, err := fix.Health(t.Context(), &pb.HealthRequest{}); err != nil {
			t.Fatalf("the server is not well any more: %v", err)
		}
	})
}

// bytesCodec sends and receives messages as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (bytesCodec) Name() string                  { return "proto" }

func (bytesCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// FuzzSubmitTaskStream sends messages of a stream of submissions that need not be
// any: each task in those that are is answered, for what it is.
func FuzzSubmitTaskStream(f *testing.F) {
	fix := setup(f)
	cc, err := grpc.NewClient("unix://"+fix.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = cc.Close() })
	batch := func(tasks ...*pb.SubmitTaskRequest) []byte {
		data, err := proto.Marshal(&pb.SubmitTaskStreamRequest{Tasks: tasks})
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	good := &pb.SubmitTaskRequest{Id: "a", Class: "cpu_short", Spec: &pb.TaskSpec{Argv: []string{"true"}}}
	f.Add(batch(good), batch(good, &pb.SubmitTaskRequest{}))
	f.Add(batch(), []byte("\x0a\x02\xff\xfe"))
	f.Add(batch(&pb.SubmitTaskRequest{Id: "a", Priority: 1 << 30, Payload: map[string]string{"": "x"}}), []byte{0x0a, 0x7f})
	f.Add(batch(&pb.SubmitTaskRequest{Id: strings.Repeat("x", 1000), Spec: &pb.TaskSpec{TimeoutMs: -1, OnLost: "?", PayloadJson: []byte("{")}}), batch(good)[:5])
	f.Fuzz(func(t *testing.T, first, second []byte) {
		if len(first)+len(second) > maxFuzz {
			return
		}
		reply, err := sendMessages(t, cc, first, second)
		want, ok := tasksIn(first, second)
		if !ok {
			if err == nil {
				t.Fatal("messages that are none were accepted")
			}
			return
		}
		if got := reply.GetAccepted() + reply.GetExisting() + reply.GetRefused(); err != nil || got != want {
			t.Fatalf("%d tasks were answered of %d: %v", got, want, err)
		}
		for _, r := range reply.GetRefusals() {
			if code := r.GetAnswer().GetCode(); code == "" || code == "internal" || r.GetAnswer().GetError() == "" {
				t.Fatalf("task %d was refused with %v", r.GetPosition(), r.GetAnswer())
			}
		}
	})
}

// sendMessages sends one stream, and returns its answer.
func sendMessages(t *testing.T, cc *grpc.ClientConn, messages ...[]byte) (*pb.SubmitTaskStreamResponse, error) {
	t.Helper()
	s, err := cc.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true},
		pb.OrchestratorService_SubmitTaskStream_FullMethodName, grpc.ForceCodec(bytesCodec{}))
	if err != nil {
		t.Fatal(err)
	}
	for i := range messages {
		if s.SendMsg(&messages[i]) != nil {
			break // why is told when the answer is received
		}
	}
	_ = s.CloseSend() // it never fails
	var data []byte
	if err := s.RecvMsg(&data); err != nil {
		return nil, err
	}
	reply := &pb.SubmitTaskStreamResponse{}
	return reply, proto.Unmarshal(data, reply)
}

// tasksIn counts the tasks in messages; ok is false if one is none.
func tasksIn(messages ...[]byte) (n int64, ok bool) {
	for _, data := range messages {
		m := &pb.SubmitTaskStreamRequest{}
		if proto.Unmarshal(data, m) != nil {
			return 0, false
		}
		n += int64(len(m.GetTasks()))
	}
	return n, true
}

// FuzzHTTPRequest sends whatever it is given to a real server in place of a
// request: what comes back is HTTP or nothing, and no fault of the server's.
func FuzzHTTPRequest(f *testing.F) {
	fix := setupHTTP(f)
	for _, seed := range []string{
		"", "GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "GET /tasks/a%2fb HTTP/1.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{\"payload\": {}}",
		"POST /queue/submit HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{", "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET", "\x16\x03\x01\x00\x05",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFuzz {
			return
		}
		got := string(sendAll(t, "tcp", fix.addr, data))
		if got != "" && !strings.HasPrefix(got, "HTTP/1.") || strings.Contains(got, " 500 Internal") {
			t.Fatalf("got %q", got)
		}
		if a, err := fix.try(http.MethodGet, "/health", http.NoBody); err != nil || a.status != http.StatusOK {
			t.Fatalf("the server is not well any more: %d, %v", a.status, err)
		}
	})
}
