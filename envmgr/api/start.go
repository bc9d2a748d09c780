package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

// StartServices wants services and what they need, and tells how each of them comes
// along, until nothing more is to be expected of any, soon at least: the last of what it
// tells says why one is not there. They always start beside each other, as far as their
// needs allow.
func (s *Service) StartServices(req *pb.StartServicesRequest, stream grpc.ServerStreamingServer[pb.ServiceStatusUpdate]) error {
	if len(req.GetOverrides()) > 0 {
		return task.Errorf(task.CodeInvalid, "overrides are not taken in a call: what a service is, the configuration says ([[service_overrides]] in the file of ENV_MANAGER_CONFIG)")
	}
	names, err := s.known(req.GetServiceNames())
	if err != nil {
		return err
	}
	ctx := stream.Context()
	if err := s.Supervisor.Up(ctx, names...); err != nil {
		return coded(err)
	}
	all := s.Set.With(names)
	sent := map[string]string{}
	for {
		snap, changed := s.Supervisor.Latest()
		settled := true
		for _, name := range all {
			one, ok := snap.Of(name)
			if !ok {
				continue
			}
			u := &pb.ServiceStatusUpdate{ServiceName: name, Status: startWord(one), Message: message(one), Progress: progress(one)}
			if key := fmt.Sprint(u.Status, u.Message, u.Progress); sent[name] != key {
				sent[name] = key
				if err := stream.Send(u); err != nil {
					return err
				}
			}
			settled = settled && one.Settled()
		}
		if settled {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// StopServices ends services and those that need them, and waits for it.
func (s *Service) StopServices(ctx context.Context, req *pb.StopServicesRequest) (*pb.StopServicesResponse, error) {
	names, err := s.known(req.GetServiceNames())
	if err != nil {
		return nil, err
	}
	all, err := s.Supervisor.Down(ctx, names...)
	if err != nil {
		return nil, coded(err)
	}
	snap, err := s.within(ctx, req.GetTimeoutSeconds(), func(snap envmgr.Snapshot) bool {
		return every(snap, all, func(o envmgr.Status) bool { return o.Phase == envmgr.Stopped })
	})
	if err != nil && !errors.Is(err, errSlow) {
		return nil, coded(err)
	}
	reply := &pb.StopServicesResponse{Success: err == nil, ServiceResults: map[string]string{}}
	for _, name := range all {
		one, _ := snap.Of(name)
		reply.ServiceResults[name] = wordStopped
		if one.Phase != envmgr.Stopped {
			reply.ServiceResults[name] = fmt.Sprintf("not yet: %s", message(one))
		}
	}
	return reply, nil
}

// RestartService ends one and starts it again, and waits until it answers.
func (s *Service) RestartService(ctx context.Context, req *pb.RestartServiceRequest) (*pb.RestartServiceResponse, error) {
	names, err := s.known([]string{req.GetServiceName()})
	if err != nil {
		return nil, err
	}
	before, _ := s.Supervisor.Latest()
	was, _ := before.Of(names[0])
	if err := s.Supervisor.Restart(ctx, names...); err != nil {
		return nil, coded(err)
	}
	snap, err := s.within(ctx, req.GetTimeoutSeconds(), func(snap envmgr.Snapshot) bool {
		one, _ := snap.Of(names[0])
		return one.Settled() && one.Phase != envmgr.Stopped && (!one.Started.Equal(was.Started) || !one.Ready())
	})
	if err != nil && !errors.Is(err, errSlow) {
		return nil, coded(err)
	}
	one, _ := snap.Of(names[0])
	return &pb.RestartServiceResponse{Success: err == nil && one.Ready(), Message: message(one)}, nil
}

// errSlow says that what was waited for has not come in the time that was given.
var errSlow = errors.New("not in the time that was given")

// within waits for a snapshot; seconds 0 = as long as the caller does.
func (s *Service) within(ctx context.Context, seconds int32, done func(envmgr.Snapshot) bool) (envmgr.Snapshot, error) {
	if seconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(seconds)*time.Second, errSlow)
		defer cancel()
	}
	return s.Supervisor.Wait(ctx, done)
}

func every(snap envmgr.Snapshot, names []string, is func(envmgr.Status) bool) bool {
	for _, name := range names {
		if one, ok := snap.Of(name); ok && !is(one) {
			return false
		}
	}
	return true
}
