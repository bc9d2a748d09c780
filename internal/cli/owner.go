package cli

import (
	"context"
	"errors"
	"io/fs"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// forbidden adds what to do about a folder that this user may not use.
func forbidden(err error) error {
	return task.Errorf(task.CodeConflict, "%w; choose a folder of your own with --workspace, or act as the owner of this one (sudo -u)", err)
}

// ownWorkspace is the configuration of a command without arguments that works in the
// workspace itself, and may.
func (s *session) ownWorkspace(c *cli.Context) (config.Config, error) {
	if err := noArgs(c); err != nil {
		return config.Config{}, err
	}
	cfg, err := s.config(c)
	if err != nil {
		return config.Config{}, err
	}
	return cfg, errors.Join(needFolder(cfg), admitted(cfg))
}

// admitted returns an error where this user may not look at the queue.
func admitted(cfg config.Config) error {
	if _, err := app.WhoOwns(cfg.QueueDir); errors.Is(err, fs.ErrPermission) {
		return forbidden(err)
	}
	return nil
}

// liveOwner returns the owner of the queue if it runs on this host, else nil: it is of
// another host, of before the last boot, or its pid is somebody else's now.
func liveOwner(queueDir string) *app.Owner {
	if o, err := app.WhoOwns(queueDir); err == nil && o.Runs() {
		return o
	}
	return nil
}

// daemonPID returns the pid of the daemon that has the queue; 0 if none has. A command
// that has it for its one call is let finish: it is no daemon, and leaves by itself.
func (s *session) daemonPID(ctx context.Context, queueDir string) int {
	var held holding
	defer s.err.settle()
	for {
		if o := liveOwner(queueDir); o != nil && o.Socket != "" {
			return o.PID
		}
		pid := app.HolderPID(queueDir)
		lasts := held.by(app.Holder{PID: pid}, s.now())
		if pid == 0 || lasts >= s.commandPatience || app.Suspended(pid) || !pause(ctx, lockLook) {
			return 0
		}
		s.tellHeld(app.Holder{PID: pid}, lasts)
	}
}
