package rpc

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (reply any, err error) {
	err = s.survive(func() (err error) {
		reply, err = handle(ctx, req)
		return err
	})
	return reply, s.answer(ctx, info.FullMethod, err)
}

// survive makes of a panic the failure of one call.
func (s *Server) survive(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a gRPC call panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("this call met a fault of %s; its log has more", s.opts.Program)
		}
	}()
	return call()
}

func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if strings.HasPrefix(info.FullMethod, reflectionPrefix) {
		handle = s.endingWithServer(handle)
	}
	err := s.survive(func() error { return handle(srv, stream) })
	return s.answer(stream.Context(), info.FullMethod, err)
}

// reflectionPrefix begins the methods of a service that is not ours.
const reflectionPrefix = "/grpc.reflection."

// endingWithServer is for a stream that would wait for its client's next question
// while the server stops. The end of the call ends its handler.
func (s *Server) endingWithServer(handle grpc.StreamHandler) grpc.StreamHandler {
	return func(srv any, stream grpc.ServerStream) error {
		done := make(chan error, 1)
		s.streams.Go(func() { done <- s.survive(func() error { return handle(srv, stream) }) })
		select {
		case err := <-done:
			return err
		case <-s.serving.Done():
			return s.opts.Stopping
		}
	}
}

// answer turns the error of a call into what travels, counts the call, and logs
// what is a fault of ours.
func (s *Server) answer(ctx context.Context, method string, err error) error {
	travels := ToStatus(err)
	s.opts.Meter.RPC(strings.TrimPrefix(method, "/"), status.Code(travels).String())
	if err == nil {
		return nil
	}
	if task.CodeOf(err) == task.CodeInternal && !isStatus(err) && ctx.Err() == nil {
		s.log.Error("call failed", "method", method, "error", err)
	}
	return travels
}
