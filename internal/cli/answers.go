package cli

import (
	"context"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/mounts"
)

// A command looks into folders that may be on a file server, which may not answer, and
// then the command would hang where not even Ctrl-C reaches it. So it first asks of each
// file system, in a process apart, whether it answers. On local disks nothing is asked.

// settings loads the configuration, for what does not look at the queue.
func (s *session) settings(c *cli.Context) (config.Config, error) {
	named := c.String("workspace")
	if named != "" && !filepath.IsAbs(named) {
		named = filepath.Join(s.env.Cwd, named)
	}
	if err := s.answers(c.Context, "the workspace", named); err != nil {
		return config.Config{}, err
	}
	if err := s.answers(c.Context, "the home folder", s.env.getenv("HOME")); err != nil {
		return config.Config{}, err
	}
	given, err := s.given(c)
	if err != nil {
		return config.Config{}, err
	}
	cfg, err := config.LoadReadable(given)
	return cfg, withCheck(err, c.String(cmdConfig))
}

// config loads the configuration for the workspace that is meant: the one that is
// named, else the nearest folder from here up that has a queue, else the current
// one.
func (s *session) config(c *cli.Context) (config.Config, error) {
	cfg, err := s.settings(c)
	if err != nil {
		return cfg, err
	}
	return cfg, app.QueueAnswers(c.Context, cfg)
}

// answers returns an error if what a folder is on does not answer; "" is no folder. Each
// file system is asked once.
func (s *session) answers(ctx context.Context, what, dir string) error {
	if !filepath.IsAbs(dir) {
		return nil
	}
	on, err := mounts.Of(dir)
	if err == nil && slices.Contains(s.answered, on) {
		return nil
	}
	if err := app.FolderAnswers(ctx, what, dir); err != nil {
		return err
	}
	s.answered = append(s.answered, on)
	return nil
}
