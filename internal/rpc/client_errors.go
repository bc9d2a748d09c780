package rpc

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
	if err := d.checkRequest(req); err != nil {
		return err
	}
	ctx, leave := d.attend(ctx)
	defer leave()
	err := invoke(ctx, method, req, reply, cc, opts...)
	return d.translate(context.Cause(ctx), err)
}

// stream does the same for each message of a stream.
func (d *socketDialer) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, leave := d.attend(ctx)
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		defer leave()
		return nil, d.translate(context.Cause(ctx), err)
	}
	cause := func() error { return context.Cause(ctx) }
	return translatedStream{s, d, cause, leave}, nil
}

// checkRequest refuses what gRPC would refuse with a text about itself.
func (d *socketDialer) checkRequest(req any) error {
	m, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	if n := proto.Size(m); n > MaxMessageBytes {
		return task.Errorf(task.CodeExhausted, "the request is %d bytes long; at most %d are allowed: %s", n, MaxMessageBytes, d.target.Wording.TooLarge)
	}
	if field := firstBadText(m.ProtoReflect(), ""); field != "" {
		return task.Errorf(task.CodeInvalid, "%s has bytes that are not UTF-8 text", field)
	}
	return nil
}

// translate turns a status into an error of the domain. A call that never
// reached a server says why the last connection failed, and one that was given up
// since the server is stopped says that: cause is that of the context of attend.
func (d *socketDialer) translate(cause, err error) error {
	if err == nil || errors.Is(err, io.EOF) || !isStatus(err) {
		return err
	}
	if errors.Is(cause, ErrSilent) {
		return cause
	}
	st := status.Convert(err)
	if _, ours := codeOf(st); !ours && st.Code() == codes.Unavailable {
		if last := d.lastError(); last != nil {
			return last
		}
		// gRPC's own words tell of frames and transports.
		return &task.Error{Code: task.CodeUnavailable, Message: "the connection to the daemon broke: it was stopped or killed", Err: err}
	}
	return FromStatus(err)
}

type translatedStream struct {
	grpc.ClientStream
	dialer *socketDialer
	cause  func() error // of the end of its context
	leave  func()       // ends what attend began
}

// RecvMsg receives the next message; its error is one of the domain's, or io.EOF,
// and the last of the stream.
func (s translatedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	err = s.dialer.translate(s.cause(), err)
	if err != nil {
		s.leave()
	}
	return err
}

// SendMsg sends a message.
func (s translatedStream) SendMsg(m any) error {
	if err := s.dialer.checkRequest(m); err != nil {
		return err
	}
	err := s.ClientStream.SendMsg(m)
	return s.dialer.translate(s.cause(), err)
}
