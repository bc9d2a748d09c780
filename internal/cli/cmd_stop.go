package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// stopTimeout is how long a daemon may take to leave: it writes what it knows,
// and stops nothing.
const stopTimeout = 60 * time.Second

func (s *session) stopCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "stop", Usage: "stop the daemon; tasks that run go on", Category: categoryDaemon,
		Description: "Where none runs, says so and ends with 0. The next start finds the tasks again, and how\nthey ended meanwhile.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "stop-timeout", Usage: "give up waiting after `TIME`", DefaultText: "60s"},
		},
		Action: s.stop,
	})
}

func (s *session) stop(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	cfg, err := s.configToCall(c)
	if err != nil {
		return err
	}
	limit := stopTimeout
	if given := c.String("stop-timeout"); given != "" {
		if limit, err = parseSpan(given); err != nil {
			return usagef("--stop-timeout: %s", err)
		}
	}
	cfg, other, err := s.atAddress(c.Context, cfg)
	if err != nil {
		return err
	}
	if other != nil {
		s.err.printf("note: %s leads to the daemon of workspace %s, which is stopped\n", envGRPCAddr, oneLine(other.GetWorkspace()))
	}
	pid, active, err := s.findRunning(c, cfg)
	if err != nil {
		return err
	}
	if pid == 0 {
		s.out.printf("no daemon runs for %s\n", cfg)
		return nil
	}
	process, err := terminate(pid)
	if err == nil {
		defer process.Close()
		if s.err.tty {
			s.err.printf("stopping pid %d ...\n", pid)
		}
		err = awaitEnd(c.Context, process, limit, s.tellLeaving(pid))
		s.err.settle()
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &exitError{code: exitFailed, msg: fmt.Sprintf("the daemon (pid %d) was asked to stop and has not after %s; its log: %s",
			pid, span(limit), filepath.Join(cfg.LogDir, daemonProgram+".log"))}
	case err != nil && !errors.Is(err, errGone):
		return err
	}
	s.out.printf("stopped: pid %d, for %s%s\n", pid, cfg, active)
	return nil
}

// findRunning returns the daemon's pid, 0 if there is none, and a sentence about
// the tasks that go on without it.
func (s *session) findRunning(c *cli.Context, cfg config.Config) (pid int, active string, err error) {
	h, err := s.health(c.Context, ofWorkspace(cfg))
	switch {
	case err == nil:
		return int(h.GetPid()), goesOn(h), nil
	case interrupted(c.Context):
		return 0, "", err
	case errors.Is(err, api.ErrSuspended):
		return 0, "", err // a signal would wait as long as it does
	}
	// Nobody answers. A daemon that hangs, or that is just starting, has said in
	// its queue's folder who it is.
	o, err := app.WhoOwns(cfg.QueueDir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return 0, "", forbidden(err)
	case err != nil:
		return 0, "", s.ownerUnknown(cfg, err)
	}
	if far := ownerElsewhere(cfg); far != nil && app.HolderPID(cfg.QueueDir) == 0 {
		return 0, "", elsewhere(cfg, far, err)
	}
	pid = s.daemonPID(c.Context, cfg.QueueDir)
	if pid == 0 && app.HolderPID(cfg.QueueDir) != 0 {
		return 0, "", s.ownerUnknown(cfg, notNamed(cfg, o))
	}
	return pid, "", nil
}

// notNamed is the error for a queue that somebody else has open than its folder says:
// the last owner has ended without a word, and whoever is next has not spoken yet.
func notNamed(cfg config.Config, o *app.Owner) error {
	path := filepath.Join(cfg.QueueDir, app.OwnerFile)
	if o == nil {
		return fmt.Errorf("there is no %s, which would name the daemon", path)
	}
	if liveOwner(cfg.QueueDir) != nil {
		return fmt.Errorf("%s names pid %d, which is a command and no daemon", path, o.PID)
	}
	return fmt.Errorf("%s names pid %d, which is gone", path, o.PID)
}

// ownerUnknown looks, where the file of the owner is of no use, whether there is
// one at all. It returns nil where nobody has the queue.
func (s *session) ownerUnknown(cfg config.Config, err error) error {
	if pid := app.HolderPID(cfg.QueueDir); pid != 0 {
		return &exitError{code: exitFailed, msg: fmt.Sprintf(
			"%s.\nProcess %d has the queue open and cannot be reached; kill %d ends it as stop would have: running tasks go on", err, pid, pid)}
	}
	s.err.printf("note: %s; nobody has the queue open, and the next start writes it anew\n", oneLine(err.Error()))
	return nil
}

func goesOn(h *pb.HealthResponse) string {
	var n int64
	for _, k := range h.GetClasses() {
		n += sumStates(k, []task.State{task.Starting, task.Running, task.Stopping})
	}
	if n == 0 {
		return ""
	}
	return "; " + goOn(n) + " without it"
}

// goOn says that so many tasks are not touched by what was done.
func goOn(n int64) string {
	if n == 1 {
		return "1 task goes on"
	}
	return count(n, "task") + " go on"
}
