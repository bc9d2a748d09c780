package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
)

// A slip in the configuration file is not to lock anybody out of work that runs. A command
// that only calls a daemon needs to know where that is, and the daemon has settings of its
// own; so where one runs for what could be read, the slip is a warning. What makes a queue,
// opens one or submits to it refuses.

// withCheck adds to the error about a configuration what looks at it again: the file that
// was named, if one was.
func withCheck(err error, named string) error {
	if _, is := errors.AsType[*config.InvalidError](err); !is {
		return err
	}
	command := Program
	if named != "" {
		command += " " + pasteable([]string{"--" + cmdConfig, named})
	}
	return fmt.Errorf("%w\nnothing was done; %s config check says whether it is good again", err, command)
}

// configToCall is config for a command that only calls a daemon which runs.
func (s *session) configToCall(c *cli.Context) (config.Config, error) {
	cfg, err := s.settings(c)
	if wrong, is := errors.AsType[*config.InvalidError](err); is && s.callable(c, cfg, wrong) {
		s.warnMistakes(wrong)
		err = nil
	}
	if err != nil {
		return cfg, err
	}
	return cfg, app.QueueAnswers(c.Context, cfg)
}

// callable says whether a daemon is found all the same: the mistakes are all in the file,
// and one runs where the rest leads.
func (s *session) callable(c *cli.Context, cfg config.Config, wrong *config.InvalidError) bool {
	if slices.ContainsFunc(wrong.Problems, func(p config.Problem) bool {
		return p.File == "" || p.Line == 0 && c.String(cmdConfig) != "" // a slip in the command line
	}) {
		return false
	}
	if o := liveOwner(cfg.QueueDir); cfg.GRPCAddr != "" || o != nil && o.Socket != "" {
		return true
	}
	cl, err := s.dial(c.Context, cfg, true)
	if err == nil {
		_ = cl.close() // it was only looked for
	}
	return !errors.Is(err, api.ErrNoDaemon)
}

// warnMistakes says, once in a command, what is wrong.
func (s *session) warnMistakes(wrong *config.InvalidError) {
	if s.mistaken {
		return
	}
	s.mistaken = true
	more := ""
	if n := len(wrong.Problems) - 1; n > 0 {
		more = fmt.Sprintf(" (and %s more)", count(int64(n), "mistake"))
	}
	s.err.printf("warning: %s%s; the daemon that runs is called all the same, but nothing is started or submitted until %s config check finds it good\n",
		oneLine(wrong.Problems[0].String()), more, Program)
}
