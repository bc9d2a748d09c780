package api

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

// StreamLogs tells what a service has printed, and with follow what it goes on to print,
// in this life of its container and the next.
func (s *Service) StreamLogs(req *pb.StreamLogsRequest, stream grpc.ServerStreamingServer[pb.LogEntry]) error {
	names, err := s.known([]string{req.GetServiceName()})
	if err != nil {
		return err
	}
	if req.GetTail() < 0 {
		return task.Errorf(task.CodeInvalid, "tail is %d; it is a number of lines, or 0 for all", req.GetTail())
	}
	o := docker.LogOptions{Tail: int(req.GetTail()), Follow: req.GetFollow()}
	if at := req.GetSinceTimestamp(); at > 0 {
		o.Since = time.Unix(at, 0)
	}
	ctx := stream.Context()
	for {
		snap, _ := s.Supervisor.Latest()
		one, _ := snap.Of(names[0])
		if one.Container != "" {
			last, err := s.copyLog(ctx, one, o, stream)
			if gone := errors.Is(err, docker.ErrNoContainer); err != nil && (!gone || !o.Follow) {
				return coded(err) // else it was removed just now, and is made anew
			}
			if !last.IsZero() {
				o.Since, o.Tail = last.Add(1), 0
			}
		}
		if !o.Follow {
			return nil
		}
		// The engine's stream ends with the container's life.
		if _, err := s.Supervisor.Wait(ctx, func(snap envmgr.Snapshot) bool {
			now, _ := snap.Of(names[0])
			return now.Container != "" && !now.Started.IsZero() && (now.Container != one.Container || !now.Started.Equal(one.Started))
		}); err != nil {
			return coded(err)
		}
	}
}

// copyLog sends the output of a container, and returns the time of the last line.
func (s *Service) copyLog(ctx context.Context, one envmgr.Status, o docker.LogOptions, stream grpc.ServerStreamingServer[pb.LogEntry]) (last time.Time, err error) {
	err = s.Engine.Logs(ctx, one.Container, o, func(e docker.Entry) error {
		last = e.At
		entry := &pb.LogEntry{ServiceName: one.Name, ContainerId: one.Container, Stream: "stdout", Timestamp: e.At.Unix()}
		if e.Stderr {
			entry.Stream = "stderr"
		}
		entry.Message = strings.ToValidUTF8(strings.TrimSuffix(string(e.Text), "\n"), "\uFFFD")
		return stream.Send(entry)
	}, func() error { return ctx.Err() })
	return last, err
}
