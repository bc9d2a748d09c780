package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// given is what the configuration is loaded from. With an error, which says what hangs, it
// is the current folder's.
func (s *session) given(c *cli.Context) (_ config.Given, err error) {
	g := config.Given{
		WorkspaceFlag: c.String("workspace"), ConfigFlag: c.String(cmdConfig), Cwd: s.env.Cwd, Lookup: s.env.getenv,
	}
	if g.WorkspaceFlag == "" {
		g.Found, err = s.nearestWorkspace(c.Context)
	}
	return g, err
}

// nearestWorkspace returns the nearest folder from the current one up that has a
// queue of ours; "" if there is none. It does not look above the home folder, where
// a look may mount something, nor into what does not answer: that is the error.
func (s *session) nearestWorkspace(ctx context.Context) (string, error) {
	queue := config.Default("").QueueDir
	if given := s.env.getenv("ENV_QUEUE_DIR"); given != "" {
		queue = given
	}
	if filepath.IsAbs(queue) {
		return "", nil // one queue, wherever we are
	}
	home := filepath.Clean(s.env.getenv("HOME"))
	for dir := s.env.Cwd; ; dir = filepath.Dir(dir) {
		at := filepath.Join(dir, queue)
		if err := s.answers(ctx, "the folder of a queue", at); err != nil {
			return "", err
		}
		switch {
		case holdsQueue(at):
			return dir, nil
		case dir == home || dir == filepath.Dir(dir):
			return "", nil
		}
	}
}

// holdsQueue says whether there is a queue in the folder, and it is ours: in a
// folder such as /tmp anybody can put one above us.
func holdsQueue(dir string) bool {
	for _, path := range []string{dir, filepath.Join(dir, "CURRENT")} {
		info, err := os.Lstat(path)
		if err != nil {
			return false
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
			return false
		}
	}
	return true
}

// tellAbove says, where the daemon that is started is that of a folder above, how this
// folder would get a queue of its own.
func (s *session) tellAbove(named string, cfg config.Config) {
	here, err := filepath.EvalSymlinks(s.env.Cwd)
	if named != "" || err != nil || here == cfg.Workspace {
		return
	}
	s.err.printf("note: this is the daemon of the folder above, %s; for a queue of this folder's own: %s start --workspace .\n", oneLine(cfg.Workspace), Program)
}

// inWorkspace adds to the error about a task that is not there where was looked for
// it: the workspace depends on the current folder.
func inWorkspace(cfg config.Config, err error) error {
	if _, is := errors.AsType[*noTaskError](err); is || err == nil || task.CodeOf(err) != task.CodeNotFound {
		return err
	}
	return task.Errorf(task.CodeNotFound, "%w (looked in %s; %s ps lists what there is)", err, cfg, Program)
}

// noTaskError is the error that something else than a task is not there.
type noTaskError struct{ err error }

func (e *noTaskError) Error() string { return e.err.Error() }

// Unwrap returns the error of the call.
func (e *noTaskError) Unwrap() error { return e.err }

// noTask marks an error of a call that is about no task.
func noTask(err error) error {
	if err == nil {
		return nil
	}
	return &noTaskError{err}
}

// needFolder refuses a workspace that is not there, which is most often a slip in what was
// typed, as do those who would make a queue in it or say that nothing is to be done.
func needFolder(cfg config.Config) error {
	if info, err := os.Stat(cfg.Workspace); err != nil || !info.IsDir() {
		return task.Errorf(task.CodeInvalid, "%s is not a folder; name another one with --workspace, or make it first: mkdir -p %s", cfg, pasteable([]string{cfg.Workspace}))
	}
	return nil
}
