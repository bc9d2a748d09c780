package cli

import (
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/shellword"
)

// arrange sorts a command line into the order that the parser understands:
// global flags, command, flags of the command, "--", arguments. People write
// flags where they think of them ("show ID --json", "ps --workspace DIR"), and
// the parser stops at the first argument.
//
// It knows every flag by then, so it is also the one place that refuses unknown
// ones, with the nearest known name. What follows "--" is never looked at.
func arrange(app *cli.App, args []string) ([]string, error) {
	a := arrangement{app: app}
	for i := 0; i < len(args); {
		used, err := a.take(args[i:])
		if err != nil {
			return nil, err
		}
		i += used
	}
	out := slices.Concat([]string{app.Name}, a.global)
	if a.cmd == nil {
		return out, nil
	}
	if a.help {
		return slices.Concat(out, helpFor(a.cmd, a.args)), nil
	}
	return slices.Concat(out, []string{a.cmd.Name}, a.flags, []string{"--"}, a.args), nil
}

type arrangement struct {
	app    *cli.App
	cmd    *cli.Command
	global []string
	flags  []string
	args   []string
	help   bool // is asked for
}

// take sorts in the next word, or the next two when the first needs a value,
// and returns how many it used.
func (a *arrangement) take(rest []string) (int, error) {
	word := rest[0]
	switch {
	case word == "--":
		if a.cmd == nil {
			return 0, usagef("-- before the command; name the command first")
		}
		a.args = append(a.args, rest[1:]...)
		return len(rest), nil
	case len(word) > 1 && word[0] == '-':
		return a.takeFlag(rest)
	case a.cmd == nil:
		a.cmd = a.app.Command(word)
		if a.cmd == nil {
			return 0, noCommand(a.app, word)
		}
		return 1, nil
	default:
		a.args = append(a.args, word)
		return 1, nil
	}
}

func (a *arrangement) takeFlag(rest []string) (int, error) {
	word := rest[0]
	if a.cmd != nil && a.cmd.Name == cmdSubmit && len(a.args) > 0 {
		// "submit python --wait": for us or for python? Guessing would run
		// something else than was meant.
		return 0, usagef("put -- before the command, since %s could be meant for %s or for submit:\n  %s submit [flags] -- %s",
			word, a.args[0], Program, shellword.Join(slices.Concat(a.args, rest)))
	}
	name, value, hasValue := strings.Cut(strings.TrimLeft(word, "-"), "=")
	dashes := len(word) - len(strings.TrimLeft(word, "-"))
	flag, global := a.find(name)
	if dashes == 1 && len(name) > 1 && (!hasValue || value != "") { // -n1
		if f, g := a.find(name[:1]); f != nil && takesValue(f) {
			flag, global, name, value, hasValue = f, g, name[:1], word[2:], true
		}
	}
	if flag == nil || dashes > 2 || dashes == 1 && len(name) > 1 {
		return 0, a.unknown(word, name)
	}
	if flag == cli.HelpFlag && a.cmd != nil {
		a.help = true
		return 1, nil
	}
	used := 1
	if takesValue(flag) && !hasValue {
		if len(rest) < 2 {
			return 0, usagef("flag %s needs a value", word)
		}
		value, hasValue, used = rest[1], true, 2
	}
	if _, isInt := flag.(*cli.IntFlag); isInt {
		if _, err := strconv.Atoi(value); err != nil {
			return 0, usagef("--%s: %q is not a whole number", flag.Names()[0], value)
		}
	}
	canonical := "--" + flag.Names()[0]
	if hasValue {
		canonical += "=" + value
	}
	if global {
		a.global = append(a.global, canonical)
	} else {
		a.flags = append(a.flags, canonical)
	}
	return used, nil
}

// find looks a flag up, first among those of the command.
func (a *arrangement) find(name string) (flag cli.Flag, global bool) {
	if a.cmd != nil {
		if f := flagNamed(a.cmd.Flags, name); f != nil {
			return f, false
		}
		if slices.Contains(cli.HelpFlag.Names(), name) {
			return cli.HelpFlag, false
		}
	}
	if f := flagNamed(a.app.Flags, name); f != nil {
		return f, true
	}
	if slices.Contains(cli.HelpFlag.Names(), name) {
		return cli.HelpFlag, true
	}
	return nil, false
}

func (a *arrangement) unknown(word, name string) error {
	known := flagNames(a.app.Flags)
	where, help := "", Program+" --help"
	if a.cmd != nil {
		known = append(flagNames(a.cmd.Flags), known...)
		where, help = " of "+a.cmd.Name, Program+" help "+a.cmd.Name
	}
	meant := otherFlags[name]
	if !slices.Contains(known, meant) {
		meant = nearest(name, known)
	}
	if meant == "" {
		meant = beginning(name, known)
	}
	if slices.Contains(unlikeFlags, name) || len(name) < 2 {
		meant = ""
	}
	if meant == "" {
		return usagef("there is no flag %s%s; %s lists what there is", word, where, help)
	}
	return usagef("there is no flag %s%s; did you mean --%s? %s lists all", word, where, meant, help)
}

// otherNames are what other programs call our commands. They are suggested and
// not accepted: one name for one thing.
var otherNames = map[string]string{
	"list": "ps", "ls": "ps", "jobs": "ps", "tasks": "ps", "squeue": "ps", "history": "ps", "top": "ps --watch", "watch": "ps --watch",
	"run": cmdSubmit, "add": cmdSubmit, "exec": cmdSubmit, "sbatch": cmdSubmit,
	"kill": "cancel", "rm": "cancel", "remove": "cancel", "delete": "cancel", "del": "cancel", "abort": "cancel", "scancel": "cancel",
	"log": "logs", "tail": "logs --follow", "output": "logs", "inspect": "show", "describe": "show", "info": "show", "get": "show",
	"restart": "stop and then start", "up": cmdStart, "down": "stop", "rerun": "retry", "explain": "why",
	"stats": "queue stats", "unpause": cmdResume, "continue": cmdResume, "init": "config init",
}

// otherFlags are what flags are called elsewhere, as far as they are not spelled
// alike.
var otherFlags = map[string]string{
	"retry": "retries", "memory": "mem", "cwd": "workdir", "dir": "workdir", "chdir": "workdir", "time": "timeout", "volume": "mount",
	"depends-on": "after", "dependency": "after", "file": "from-file", "lines": "tail", "filter": "state", "status": "state",
}

// unlikeFlags are flags of other programs that have no counterpart here: what is spelled
// nearly alike is something else.
var unlikeFlags = []string{"tag", "tags", "label", "labels", "user", "owner"}

func noCommand(app *cli.App, word string) error {
	meant := otherNames[word]
	if meant == "" {
		meant = nearest(word, commandNames(app))
	}
	if meant == "" {
		meant = beginning(word, commandNames(app))
	}
	return usagef("there is no command %q%s", word, didYouMean(meant, ""))
}

func flagNamed(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

// flagNames lists the long names.
func flagNames(flags []cli.Flag) []string {
	var out []string
	for _, f := range flags {
		out = append(out, f.Names()[0])
	}
	return append(out, "help")
}

func commandNames(app *cli.App) []string {
	var out []string
	for _, c := range app.Commands {
		if !c.Hidden {
			out = append(out, c.Name)
		}
	}
	return out
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}
