package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// completeTimeout is how long a shell waits for an answer: a person has pressed
// Tab and watches.
const completeTimeout = 400 * time.Millisecond

// completeLimit bounds the ids that are offered.
const completeLimit = 200

// completeCommand answers the completion scripts: its arguments are the words
// of the command line so far, the last one being typed. It prints one
// candidate per line, and nothing when there is trouble of any kind.
func (s *session) completeCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "__complete", Usage: "answer a completion script", Hidden: true,
		Action: func(c *cli.Context) error {
			ctx, cancel := context.WithTimeout(c.Context, completeTimeout)
			defer cancel()
			words := c.Args().Slice()
			if len(words) == 0 {
				words = []string{""}
			}
			comp := completion{s: s, ctx: ctx, app: c.App}
			current := words[len(words)-1]
			for _, candidate := range comp.candidates(words[:len(words)-1], current) {
				if strings.HasPrefix(candidate, current) {
					s.out.printf("%s\n", candidate)
				}
			}
			return nil
		},
	})
}

type completion struct {
	s         *session
	ctx       context.Context
	app       *cli.App
	cmd       *cli.Command
	args      []string // of the command, before the word that is typed
	workspace string
	file      string // --config
}

// candidates returns what may stand in the place of the current word.
func (c *completion) candidates(before []string, current string) []string {
	var open cli.Flag // whose value is being typed
	for _, w := range before {
		if w == "--" {
			return nil // the command of a task: files, which the shell knows
		}
		open = c.step(open, w)
	}
	if open != nil {
		return c.values(open.Names()[0], current)
	}
	if name, _, ok := strings.Cut(current, "="); ok && strings.HasPrefix(name, "-") {
		if f := c.flag(strings.TrimLeft(name, "-")); f != nil {
			return prefixed(name+"=", c.values(f.Names()[0], strings.TrimPrefix(current, name+"=")))
		}
	}
	switch {
	case strings.HasPrefix(current, "-"):
		return c.flags()
	case c.cmd == nil:
		return commandNames(c.app)
	}
	return c.arguments(current)
}

// step takes in a word that is complete, and returns the flag that waits for a
// value after it.
func (c *completion) step(open cli.Flag, word string) cli.Flag {
	switch {
	case open != nil:
		c.note(open, word)
		return nil
	case strings.HasPrefix(word, "-"):
		name, value, has := strings.Cut(strings.TrimLeft(word, "-"), "=")
		f := c.flag(name)
		if f != nil && has {
			c.note(f, value)
		}
		if f != nil && !has && takesValue(f) {
			return f
		}
	case c.cmd == nil:
		c.cmd = c.app.Command(word)
	default:
		c.args = append(c.args, word)
	}
	return nil
}

func (c *completion) note(f cli.Flag, value string) {
	switch f.Names()[0] {
	case "workspace":
		c.workspace = value
	case cmdConfig:
		c.file = value
	}
}

func (c *completion) flag(name string) cli.Flag {
	if c.cmd != nil {
		if f := flagNamed(c.cmd.Flags, name); f != nil {
			return f
		}
	}
	return flagNamed(c.app.Flags, name)
}

func (c *completion) flags() []string {
	var names []string
	if c.cmd != nil {
		names = flagNames(c.cmd.Flags)
	}
	names = append(names, flagNames(c.app.Flags)...)
	slices.Sort(names)
	return prefixed("--", slices.Compact(names))
}

func prefixed(prefix string, words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = prefix + w
	}
	return out
}

// values returns what a flag may be set to.
func (c *completion) values(flag, current string) []string {
	switch flag {
	case "class":
		return c.config().ClassNames()
	case "on-lost":
		return lostPolicies
	case "state":
		done := current[:strings.LastIndexByte(current, ',')+1]
		return prefixed(done, stateWords())
	case "after":
		return c.ids(nil, current)
	}
	return nil
}

// arguments returns what a command may be given.
func (c *completion) arguments(current string) []string {
	switch c.cmd.Name {
	case "show", "why", "result", "logs":
		return c.ids(nil, current)
	case "wait", "cancel":
		return c.ids(append(activeStates(), task.Pending.String()), current)
	case "retry":
		return c.ids([]string{task.Failed.String(), task.Cancelled.String(), task.Lost.String()}, current)
	case cmdHelp:
		if len(c.args) == 1 {
			return actionNames(c.args[0])
		}
		return commandNames(c.app)
	case cmdConfig:
		return c.configWords(c.args)
	case cmdQueue, cmdGPUs, cmdAccess, cmdCompletion:
		if len(c.args) > 0 {
			return nil
		}
		return actionNames(c.cmd.Name)
	case cmdServices:
		return c.serviceWords()
	case cmdPause, cmdResume:
		return c.config().ClassNames()
	}
	return nil
}

func (c *completion) config() config.Config {
	given := config.Given{WorkspaceFlag: c.workspace, ConfigFlag: c.file, Cwd: c.s.env.Cwd, Lookup: c.s.env.getenv}
	if c.workspace == "" {
		given.Found, _ = c.s.nearestWorkspace(c.ctx) // what hangs is not completed
	}
	cfg, err := config.Load(given)
	if err != nil {
		return config.Default(c.s.env.Cwd)
	}
	return cfg
}

// ids asks the daemon for those that begin with what is typed.
func (c *completion) ids(states []string, current string) []string {
	cfg := c.config()
	if app.QueueAnswers(c.ctx, cfg) != nil {
		return nil
	}
	cl, err := c.s.open(c.ctx, cfg, reads, false)
	if err != nil {
		return nil
	}
	defer func() { _ = cl.close() }()
	answer, err := cl.ListTasks(c.ctx, &pb.ListTasksRequest{States: states, IdPrefix: current, Limit: completeLimit})
	if err != nil {
		return nil
	}
	var out []string
	for _, t := range answer.GetTasks() {
		out = append(out, t.GetId())
	}
	return out
}
