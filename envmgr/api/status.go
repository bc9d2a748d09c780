package api

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

// GetServicesStatus tells how services stand.
func (s *Service) GetServicesStatus(ctx context.Context, req *pb.GetServicesStatusRequest) (*pb.ServicesStatusResponse, error) {
	names, err := s.known(req.GetServiceNames())
	if err != nil {
		return nil, err
	}
	snap, _ := s.Supervisor.Latest()
	reply := &pb.ServicesStatusResponse{Services: map[string]*pb.ServiceStatus{}}
	answers := make([]*pb.ServiceStatus, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		if one, ok := snap.Of(name); ok {
			wg.Go(func() { answers[i] = s.status(ctx, one, snap.Away == "") })
		}
	}
	wg.Wait()
	for _, p := range answers {
		if p != nil {
			reply.Services[p.GetName()] = p
		}
	}
	return reply, nil
}

// status is what is known of one; the engine is asked only where it answers.
func (s *Service) status(ctx context.Context, one envmgr.Status, engine bool) *pb.ServiceStatus {
	p := &pb.ServiceStatus{
		Name: one.Name, Status: statusWord(one), ContainerId: one.Container,
		HealthChecks: map[string]string{"phase": one.Phase.String()},
	}
	for _, port := range one.Ports {
		if !slices.Contains(p.Ports, int32(port.Host)) { // one for IPv4, and one for IPv6
			p.Ports = append(p.Ports, int32(port.Host))
		}
	}
	slices.Sort(p.Ports)
	for key, text := range map[string]string{"reason": one.Reason, "probe": one.Probe, "adopted": one.Adopted} {
		if text != "" {
			p.HealthChecks[key] = text
		}
	}
	if one.Ends > 0 {
		p.HealthChecks["ends"] = strconv.Itoa(one.Ends)
	}
	if !one.Started.IsZero() {
		p.StartedAt = one.Started.Unix()
		if !engine {
			return p
		}
		if u, percent, ok := s.usage.of(ctx, one.Container, one.Started); ok {
			p.ResourceUsage = &pb.ResourceUsage{CpuPercent: percent, MemoryBytes: u.MemBytes, NetworkRxBytes: u.RxBytes, NetworkTxBytes: u.TxBytes}
		}
	}
	return p
}

// Bounds of StreamHealth's interval.
const (
	healthEvery = 5 * time.Second
	longest     = 24 * time.Hour
)

// StreamHealth tells how services are, all of them at each interval and one at once when
// its health changes.
func (s *Service) StreamHealth(req *pb.StreamHealthRequest, stream grpc.ServerStreamingServer[pb.HealthUpdate]) error {
	names, err := s.known(req.GetServiceNames())
	if err != nil {
		return err
	}
	interval := time.Duration(req.GetIntervalSeconds()) * time.Second
	switch {
	case interval < 0 || interval > longest:
		return task.Errorf(task.CodeInvalid, "interval_seconds is %d; it is between 1 and %d, or 0 for %d", req.GetIntervalSeconds(), longest/time.Second, healthEvery/time.Second)
	case interval == 0:
		interval = healthEvery
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	told := map[string]string{}
	for all := true; ; {
		snap, changed := s.Supervisor.Latest()
		for _, name := range names {
			one, ok := snap.Of(name)
			state := strings.Join([]string{one.Phase.String(), one.Reason}, ": ")
			if !ok || !all && told[name] == state {
				continue
			}
			told[name] = state
			if err := stream.Send(s.health(one)); err != nil {
				return err
			}
		}
		select {
		case <-changed:
			all = false
		case <-tick.C:
			all = true
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func (s *Service) health(one envmgr.Status) *pb.HealthUpdate {
	u := &pb.HealthUpdate{
		ServiceName: one.Name, Healthy: one.Ready(), Message: message(one), Timestamp: s.Now().Unix(),
		Details: map[string]string{"phase": one.Phase.String(), "since": one.Since.UTC().Format(time.RFC3339)},
	}
	if one.Probe != "" {
		u.Details["probe"] = one.Probe
	}
	return u
}
