package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// envManagerProgram is the name of env-manager's binary.
const envManagerProgram = "env-manager"

// startedEnvManager connects to the env-manager of this user, and starts one where none
// runs, in which nothing is wanted yet.
func (s *session) startedEnvManager(c *cli.Context, cfg config.Config, names []string) (*envManager, error) {
	em, err := dialEnvManager(c.Context, cfg, false)
	if err == nil || !errors.Is(err, api.ErrNoDaemon) {
		return em, err
	}
	defined, err := app.DefineServices(c.Context, cfg, s.env.Environ)
	if err == nil {
		err = defined.Known(names) // none is to be started for a typing mistake
	}
	if err == nil {
		err = needFolder(cfg)
	}
	if err != nil {
		return nil, err
	}
	limit, err := s.startLimit(c)
	if err != nil {
		return nil, err
	}
	program, err := s.findProgram(envManagerProgram)
	if err != nil {
		return nil, err
	}
	if err := s.launchEnvManager(c.Context, cfg, program, limit); err != nil {
		return nil, err
	}
	return dialEnvManager(c.Context, cfg, false)
}

// launchEnvManager starts it in the background and waits for its word. Where somebody
// else was faster, there is one as well.
func (s *session) launchEnvManager(ctx context.Context, cfg config.Config, program string, limit time.Duration) error {
	if err := app.LogFolderAnswers(ctx, cfg); err != nil {
		return err
	}
	d, err := spawnDaemon(cfg, envManagerProgram, program, append(cfg.Args(), "--services", "none"), s.env.Environ)
	if err != nil {
		return notSpawned(err)
	}
	logFile := filepath.Join(cfg.LogDir, envManagerProgram+".log")
	said, err := d.await(ctx, limit, func(waited time.Duration) {
		s.err.wait(s.now(), fmt.Sprintf("note: waiting for env-manager (pid %d) to accept calls; its log: %s", d.pid, oneLine(logFile)),
			fmt.Sprintf("waiting for pid %d, for %s now", d.pid, wholeSeconds(waited)))
	})
	s.err.settle()
	code, _ := parseCode(said.Code)
	switch {
	case interrupted(ctx):
		s.err.printf("%sno longer waiting; env-manager goes on starting as pid %d, with no service\n", s.err.afterCtrlC(), d.pid)
		return err
	case err == nil && said.OK:
		s.err.printf("started env-manager: pid %d\n", said.PID)
		return nil
	case err == nil && code == task.CodeConflict:
		return nil // whether it answers, the call that follows tells
	case err == nil:
		return task.Errorf(code, "env-manager could not start: %s", said.Error)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &exitError{code: exitNoDaemon, msg: fmt.Sprintf("env-manager (pid %d) does not accept calls after %s; it goes on trying, its log: %s", d.pid, span(limit), logFile)}
	default:
		return &exitError{code: exitFailed, msg: "env-manager ended before it accepted calls" + d.lastWords()}
	}
}
