package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

// serviceQuiet is how long nothing may move before services that are not well are given up:
// those that somebody else keeps from starting, or that a Docker would have that is away.
// env-manager goes on trying, however long that takes.
const serviceQuiet = 3 * time.Second

func (s *session) servicesUp(c *cli.Context, names []string) error {
	cfg, err := s.settings(c)
	if err != nil {
		return err
	}
	em, err := s.startedEnvManager(c, cfg, names)
	if err != nil {
		return err
	}
	defer func() { _ = em.close() }() // nothing is under way any more
	ctx := c.Context
	err = s.bringUp(ctx, em, names)
	if interrupted(ctx) {
		s.err.printf("%sno longer waiting; env-manager goes on with the services: %s services shows how they are\n", s.err.afterCtrlC(), Program)
		return ctx.Err()
	}
	return err
}

// rise is how services come along.
type rise struct {
	order []string
	last  map[string]*pb.ServiceStatusUpdate
}

// bringUp has services started and shows how they come along. The error says which are not
// healthy in the end, and why.
func (s *session) bringUp(ctx context.Context, em *envManager, names []string) error {
	var reader sync.WaitGroup
	defer reader.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stream, err := em.StartServices(ctx, &pb.StartServicesRequest{ServiceNames: names, Parallel: true})
	if err != nil {
		return err
	}
	updates, ended := make(chan *pb.ServiceStatusUpdate), make(chan error, 1)
	reader.Go(func() {
		for {
			u, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case updates <- u:
			case <-ctx.Done(): // nobody takes it
			}
		}
	})
	r, b := rise{last: map[string]*pb.ServiceStatusUpdate{}}, board{out: s.out}
	quiet := time.NewTimer(s.serviceQuiet)
	defer quiet.Stop()
	for {
		select {
		case u := <-updates:
			r.note(&b, u)
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return r.outcome()
			}
			return err
		case <-quiet.C:
			if r.stuck(ctx, em) {
				return r.outcome()
			}
		}
		if s.out.err != nil {
			return s.out.err
		}
		quiet.Reset(s.serviceQuiet)
	}
}

func (r *rise) note(b *board, u *pb.ServiceStatusUpdate) {
	name := u.GetServiceName()
	if r.last[name] == nil {
		r.order = append(r.order, name)
	}
	r.last[name] = u
	starting := u.GetStatus() == serviceStarting
	b.note(name, u.GetStatus(), u.GetMessage(), !starting && u.GetStatus() != serviceUnhealthy, !starting)
}

// restingPhases are those in which nothing is under way for a service.
var restingPhases = []string{"stopped", "engine_away", "waiting", "ready", "degraded", "blocked", "failed", "done"}

// stuck says that a service is not well, and that nothing is under way for any of them.
func (r *rise) stuck(ctx context.Context, em *envManager) bool {
	if !slices.ContainsFunc(r.order, func(name string) bool { return r.last[name].GetStatus() == serviceUnhealthy }) {
		return false
	}
	list, err := statusOf(ctx, em, r.order)
	if err != nil {
		return false // the stream tells
	}
	return !slices.ContainsFunc(list, func(v *pb.ServiceStatus) bool {
		return !slices.Contains(restingPhases, v.GetHealthChecks()[checkPhase])
	})
}

// outcome is the error for what is not healthy; services with the same reason are told
// together.
func (r *rise) outcome() error {
	var bad, reasons []string
	of := map[string][]string{}
	for _, name := range r.order {
		u := r.last[name]
		if u.GetStatus() == serviceHealthy {
			continue
		}
		bad = append(bad, name)
		why := u.GetStatus()
		if m := u.GetMessage(); m != "" && m != why {
			why += ": " + m
		}
		if of[why] == nil {
			reasons = append(reasons, why)
		}
		of[why] = append(of[why], name)
	}
	if len(bad) == 0 {
		return nil
	}
	lines := []string{fmt.Sprintf("%d of %s not healthy; %s services why NAME tells more", len(bad), count(int64(len(r.order)), "service"), Program)}
	for _, why := range reasons {
		lines = append(lines, strings.Join(of[why], ", ")+": "+why)
	}
	return &exitError{code: exitFailed, msg: strings.Join(lines, "\n  ")}
}
