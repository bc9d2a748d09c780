package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

func (s *session) servicesDown(c *cli.Context, names []string) error {
	return s.withEnvManager(c, false, func(ctx context.Context, em *envManager) error {
		before, err := statusOf(ctx, em, nil)
		if err != nil {
			return err
		}
		if err := engineAway(before); err != nil {
			return err // it would be waited for
		}
		s.tellUsers(c, names, before)
		answer, err := em.StopServices(ctx, &pb.StopServicesRequest{ServiceNames: names})
		if interrupted(ctx) {
			s.err.printf("%sno longer waiting; env-manager goes on ending them: %s services shows how they are\n", s.err.afterCtrlC(), Program)
		}
		if err != nil {
			return err
		}
		var left []string
		for _, name := range slices.Sorted(maps.Keys(answer.GetServiceResults())) {
			result := answer.GetServiceResults()[name]
			s.tellService(name, result)
			if result != serviceStopped {
				left = append(left, name)
			}
		}
		if !answer.GetSuccess() {
			return &exitError{code: exitFailed, msg: "not all of them have ended: " + strings.Join(left, ", ")}
		}
		return nil
	})
}

// engineAway is the error for services that nobody can see, since Docker does not answer.
func engineAway(now []*pb.ServiceStatus) error {
	for _, v := range now {
		if v.GetHealthChecks()[checkPhase] == "engine_away" {
			return &exitError{code: exitFailed, msg: "nothing was done: " + v.GetHealthChecks()[checkReason]}
		}
	}
	return nil
}

// tellUsers says which services that run end as well, since they need one that is to end.
func (s *session) tellUsers(c *cli.Context, names []string, now []*pb.ServiceStatus) {
	cfg, err := s.settings(c)
	if err != nil || len(names) == 0 {
		return
	}
	defined, err := app.DefineServices(c.Context, cfg, s.env.Environ)
	if err != nil {
		return // env-manager knows; this is only said earlier
	}
	users := slices.DeleteFunc(defined.Users(names), func(name string) bool {
		return !slices.ContainsFunc(now, func(v *pb.ServiceStatus) bool { return v.GetName() == name && v.GetStatus() != serviceStopped })
	})
	if len(users) > 0 {
		s.err.printf("note: what needs %s ends first: %s\n", strings.Join(names, ", "), strings.Join(users, ", "))
	}
}

// tellService says what became of one.
func (s *session) tellService(name, text string) {
	between := "\t"
	if s.out.tty {
		between = ": "
	}
	s.out.printf("%s%s%s\n", name, between, text)
}

func (s *session) servicesRestart(c *cli.Context, names []string) error {
	return s.withEnvManager(c, false, func(ctx context.Context, em *envManager) error {
		before, err := statusOf(ctx, em, names)
		if err == nil {
			err = engineAway(before)
		}
		if err != nil {
			return err // before the first is restarted
		}
		var failed []string
		for _, name := range names {
			answer, err := em.RestartService(ctx, &pb.RestartServiceRequest{ServiceName: name})
			if interrupted(ctx) {
				s.err.printf("%sno longer waiting; env-manager goes on restarting %s\n", s.err.afterCtrlC(), name)
			}
			if err != nil {
				return err
			}
			s.tellService(name, answer.GetMessage())
			if !answer.GetSuccess() {
				failed = append(failed, name+": "+answer.GetMessage())
			}
		}
		if len(failed) > 0 {
			return &exitError{code: exitFailed, msg: fmt.Sprintf("%d of %s not healthy\n  %s", len(failed), count(int64(len(names)), "service"), strings.Join(failed, "\n  "))}
		}
		return nil
	})
}

func (s *session) servicesQuit(c *cli.Context, _ []string) error {
	cfg, err := s.settings(c)
	if err != nil {
		return err
	}
	em, err := dialEnvManager(c.Context, cfg, false)
	if errors.Is(err, api.ErrNoDaemon) {
		s.out.printf("no env-manager is running\n")
		return nil
	}
	if err != nil {
		return err
	}
	if em.pid <= 0 {
		_ = em.close() // it was only asked who it is
		return task.Errorf(task.CodeConflict, "the env-manager that answers runs in another container, from where its process cannot be seen: end it there")
	}
	process, err := terminate(em.pid)
	_ = em.close() // the process is known by a file from here on
	if errors.Is(err, errGone) {
		s.out.printf("no env-manager is running\n")
		return nil
	}
	if err != nil {
		return err
	}
	defer process.Close()
	err = awaitEnd(c.Context, process, stopTimeout, func(time.Duration) {})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &exitError{code: exitFailed, msg: fmt.Sprintf("env-manager (pid %d) was asked to end and has not after %s; logs/%s.log may say why", em.pid, span(stopTimeout), envManagerProgram)}
	case err != nil:
		return err
	}
	s.out.printf("ended env-manager: pid %d; the services go on as they are\n", em.pid)
	return nil
}
