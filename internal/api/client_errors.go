package api

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// unary gives the caller the domain's errors.
func (d *socketDialer) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if err := checkRequest(req); err != nil {
		return err
	}
	return d.translate(invoke(ctx, method, req, reply, cc, opts...))
}

// stream does the same for each message of a stream.
func (d *socketDialer) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, d.translate(err)
	}
	return translatedStream{s, d}, nil
}

// checkRequest refuses what gRPC would refuse with a text about itself.
func checkRequest(req any) error {
	m, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	if n := proto.Size(m); n > MaxMessageBytes {
		return task.Errorf(task.CodeExhausted, "the request is %d bytes long; at most %d are allowed: send fewer tasks at once", n, MaxMessageBytes)
	}
	if field := firstBadText(m.ProtoReflect(), ""); field != "" {
		return task.Errorf(task.CodeInvalid, "%s has bytes that are not UTF-8 text", field)
	}
	return nil
}

// translate turns a status into an error of the domain. A call that never
// reached a server says why the last connection failed.
func (d *socketDialer) translate(err error) error {
	if err == nil || errors.Is(err, io.EOF) || !isStatus(err) {
		return err
	}
	st := status.Convert(err)
	if _, ours := codeOf(st); !ours && st.Code() == codes.Unavailable {
		d.mu.Lock()
		last := d.last
		d.mu.Unlock()
		if last != nil {
			return last
		}
	}
	return fromStatus(err)
}

type translatedStream struct {
	grpc.ClientStream
	dialer *socketDialer
}

// RecvMsg receives the next message; its error is one of the domain's, or io.EOF.
func (s translatedStream) RecvMsg(m any) error { return s.dialer.translate(s.ClientStream.RecvMsg(m)) }

// SendMsg sends a message.
func (s translatedStream) SendMsg(m any) error {
	if err := checkRequest(m); err != nil {
		return err
	}
	return s.dialer.translate(s.ClientStream.SendMsg(m))
}
