package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/mounts"
	"github.com/dspy-agent/dspy-agent/internal/taskid"
	"github.com/dspy-agent/dspy-agent/internal/version"
)

// Program is the name of the command.
const Program = "dspy-agent"

// session is one run of the command.
type session struct {
	env      Env
	out, err *screen
	now      func() time.Time
	ids      taskid.Maker
	// reconnectFor is how long a daemon that went away is waited for.
	reconnectFor time.Duration
	// commandPatience is how long a command that has the queue is waited for.
	commandPatience time.Duration
	// waitSilence is how long wait says nothing to a pipe.
	waitSilence time.Duration
	// serviceQuiet is how long nothing may move before a service that is not well is given up.
	serviceQuiet time.Duration
	// signOfLife is how long an owner on another host is looked at.
	signOfLife time.Duration
	// answered are the file systems that have been found to answer.
	answered []mounts.Mount
	// mistaken says that the configuration has mistakes, which were told: no queue is opened
	// with what could be read of it.
	mistaken bool
	dial     func(ctx context.Context, cfg config.Config, raw bool) (*client, error)
}

// Main runs the command line and returns its exit code. Cancelling ctx is
// Ctrl-C; its cause may be an InterruptedError.
func Main(ctx context.Context, env Env) int {
	return newSession(env).run(ctx)
}

func newSession(env Env) *session {
	return &session{
		env: env, out: newScreen(env.Stdout, env), err: newScreen(env.Stderr, env),
		now: time.Now, dial: dial, reconnectFor: reconnectFor, commandPatience: commandPatience, signOfLife: app.SignOfLife,
		waitSilence: waitSilence, serviceQuiet: serviceQuiet,
	}
}

func (s *session) run(ctx context.Context) int {
	s.env.Stdin = interruptible(ctx, s.env.Stdin)
	app := s.app()
	app.Setup() // adds --version, for arrange to know it
	args, err := arrange(app, s.env.Args[min(1, len(s.env.Args)):])
	if err == nil && !isDoctor(args) {
		err = s.findFolder(ctx)
	}
	if err == nil {
		err = app.RunContext(ctx, args)
	}
	if err == nil && s.out.err != nil {
		err = s.unsaid() // a full disk is not success, a reader that left is
	}
	code := exitCode(ctx, err)
	if msg := s.complaint(ctx, err); msg != "" {
		s.err.printf("%s %s\n", s.err.paint(red, Program+":"), msg)
	}
	return code
}

// unsaid is the error of a command that has done what it was to do, and could not say so.
func (s *session) unsaid() error {
	if brokenPipe(s.out.err) {
		return s.out.err
	}
	return &exitError{code: exitFailed, msg: fmt.Sprintf("it was done, and what it says could not be written: %s", s.out.err)}
}

// complaint is what to say about an error; "" if nothing.
func (s *session) complaint(ctx context.Context, err error) string {
	var exit *exitError
	switch {
	case err == nil || brokenPipe(err):
		return ""
	case errors.As(err, &exit):
		return defuseLines(exit.msg)
	case interrupted(ctx):
		return ""
	}
	return defuseLines(err.Error())
}

// app defines the command line. docs/cli.md is rendered from it.
func (s *session) app() *cli.App {
	a := &cli.App{
		Name:    Program,
		Usage:   "a durable queue for jobs on this machine",
		Version: version.String(),
		Description: "Tasks are submitted to a daemon that starts them when there is room, and keeps them,\n" +
			"their output and their results on disk. Nothing is lost when it is stopped or killed.\n\n" +
			"exit codes:\n" + exitHelp(),
		UsageText: "dspy-agent [--workspace DIR] [--config FILE] COMMAND [flags] [arguments]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "workspace", Usage: "`DIR` whose queue is meant (default: the current folder, or the nearest above it that has a queue)"},
			&cli.StringFlag{Name: cmdConfig, Usage: "configuration `FILE` (default: DSPY_AGENT_CONFIG, or ~/.dspy-agent/config.toml)"},
			cli.HelpFlag, // added by the library only where there is no help command of ours
		},
		Commands: []*cli.Command{
			s.startCommand(), s.stopCommand(), s.drainCommand(), s.workerCommand(), s.statusCommand(), s.queueCommand(), s.pauseCommand(), s.resumeCommand(), s.gpusCommand(), s.slurmCommand(), s.imagesCommand(), s.servicesCommand(), s.doctorCommand(), s.configCommand(), s.accessCommand(), s.versionCommand(),
			s.submitCommand(), s.psCommand(), s.showCommand(), s.whyCommand(), s.resultCommand(), s.logsCommand(),
			s.waitCommand(), s.cancelCommand(), s.retryCommand(),
			s.completionCommand(), s.completeCommand(), s.examineCommand(), s.helpCommand(),
		},
		Reader: s.env.Stdin, Writer: s.out, ErrWriter: s.err,
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true, // a comma in --env A=1,2 is part of the value
		OnUsageError:              func(_ *cli.Context, err error, _ bool) error { return usagef("%s", err) },
		ExitErrHandler:            func(*cli.Context, error) {}, // Main decides, and nobody else ends the process
	}
	a.CustomAppHelpTemplate = appHelp(a)
	return a
}

// command fills in what all commands have in common.
func (s *session) command(c cli.Command) *cli.Command {
	c.HideHelpCommand = true
	if c.UsageText == "" {
		c.UsageText = strings.TrimSpace(Program + " " + c.Name + " [flags] " + c.ArgsUsage)
	}
	c.CustomHelpTemplate = commandHelp(&c)
	c.OnUsageError = func(_ *cli.Context, err error, _ bool) error {
		return usagef("%s: %s", c.Name, strings.TrimPrefix(err.Error(), "flag provided but not defined: "))
	}
	return &c
}

// Categories of commands in the help.
const (
	categoryDaemon = "the daemon"
	categorySubmit = "tasks"
	categoryShell  = "the shell"
	categoryLater  = "not in this release yet" // of flags
)

// jsonFlag is the same in every command that has it.
func jsonFlag() cli.Flag {
	return boolFlag("json", "print JSON with stable names, see docs/cli.md")
}

// boolFlag is a switch that is off unless it is given.
func boolFlag(name, usage string, aliases ...string) cli.Flag {
	return &cli.BoolFlag{Name: name, Usage: usage, Aliases: aliases, DisableDefaultText: true}
}

// withClient calls fn with a connection to the daemon, or to the queue itself where that
// is what the command needs.
func (s *session) withClient(c *cli.Context, n need, fn func(ctx context.Context, cl *client) error) error {
	cfg, err := s.configToCall(c)
	if err != nil {
		return err
	}
	cl, err := s.open(c.Context, cfg, n, c.Bool("json"))
	if err != nil {
		return err
	}
	defer func() { _ = cl.close() }()
	s.noteAddress(c.Context, cfg, cl)
	return inWorkspace(cfg, fn(c.Context, cl))
}

// oneID returns the only argument of a command that takes one task.
func oneID(c *cli.Context) (string, error) {
	if c.NArg() != 1 || c.Args().First() == "" {
		return "", usagef("%s takes the id of one task; %s ps lists them", c.Command.Name, Program)
	}
	return c.Args().First(), noPrefix(c)
}

// noPrefix refuses the beginning of many ids where one task is meant.
func noPrefix(c *cli.Context) error {
	if arg := c.Args().First(); isPrefix(arg) {
		return usagef("%s takes the id of one task; %s ps %s lists those whose ids begin so", c.Command.Name, Program, arg)
	}
	return nil
}

// noArgs refuses arguments of a command that takes none.
func noArgs(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("%s takes no arguments, but was given %q", c.Command.Name, c.Args().First())
	}
	return nil
}
