package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
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
	limit, err := upLimit(c)
	if err != nil {
		return err
	}
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
	err = s.bringUp(ctx, em, names, limit)
	if interrupted(ctx) {
		s.err.printf("%sno longer waiting; env-manager goes on with the services: %s services shows how they are\n", s.err.afterCtrlC(), Program)
		return ctx.Err()
	}
	return err
}

// upLimit is how long up waits at most.
func upLimit(c *cli.Context) (time.Duration, error) {
	given := c.String("timeout")
	if given == "" {
		return math.MaxInt64, nil
	}
	d, err := parseSpan(given)
	if err != nil {
		return 0, usagef("--timeout: %s", err)
	}
	return d, nil
}

// rise is how services come along.
type rise struct {
	order []string
	last  map[string]*pb.ServiceStatusUpdate
}

// bringUp has services started and shows how they come along. The error says which are not
// healthy in the end, or when the limit is over, and why.
func (s *session) bringUp(ctx context.Context, em *envManager, names []string, limit time.Duration) error {
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
	over := time.NewTimer(limit)
	defer over.Stop()
	for {
		select {
		case u := <-updates:
			r.note(&b, u)
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return r.outcome()
			}
			return err
		case <-over.C:
			return r.late(limit)
		case <-quiet.C:
			r.tellWaiting(&b)
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
	settled := settledWord(u.GetStatus())
	b.note(name, u.GetStatus(), u.GetMessage(), settled, settled)
}

// tellWaiting tells, once nothing has moved for a moment, what the rest waits for: before,
// as while Docker is looked for, it may pass.
func (r *rise) tellWaiting(b *board) {
	for _, name := range r.order {
		if u := r.last[name]; !settledWord(u.GetStatus()) {
			b.note(name, u.GetStatus(), u.GetMessage(), false, true)
		}
	}
}

// settledWord says that with a word of a start it is over. One that is stopped may be on
// its way to be made anew.
func settledWord(word string) bool { return word == serviceHealthy || word == serviceFailed }

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

// late is the error for what was not healthy in time.
func (r *rise) late(limit time.Duration) error {
	msg := fmt.Sprintf("no longer waiting after %s; env-manager goes on", span(limit))
	if exit, ok := errors.AsType[*exitError](r.outcome()); ok {
		msg += ": " + exit.msg
	}
	return &exitError{code: exitFailed, msg: msg}
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
