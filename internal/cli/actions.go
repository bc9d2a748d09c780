package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// action is one of the words that may follow a command such as queue or gpus. The library
// knows none of them: its subcommands have flags of their own, and here a flag may stand
// anywhere.
type action struct {
	name  string
	takes string   // its arguments, for the help; "" = none
	flags []string // of the command, as far as they go with it
	help  string
}

// actionsOf lists those of a command; none for most.
func actionsOf(command string) []action {
	switch command {
	case cmdQueue:
		return queueActions()
	case cmdGPUs:
		return gpusActions
	case cmdSlurm:
		return slurmActions
	case cmdConfig:
		return configActions
	case cmdAccess:
		return accessActions
	case cmdServices:
		return servicesActions()
	case cmdCompletion:
		return completionActions
	}
	return nil
}

func actionNames(command string) []string {
	var names []string
	for _, a := range actionsOf(command) {
		names = append(names, a.name)
	}
	return names
}

// actionLines is what the help of a command says of its actions.
func actionLines(actions []action) string {
	width := 0
	for _, a := range actions {
		width = max(width, len(a.syntax()))
	}
	var b strings.Builder
	for _, a := range actions {
		fmt.Fprintf(&b, "%-*s  %s\n", width, a.syntax(), a.help)
	}
	return b.String()
}

func (a action) syntax() string { return strings.TrimSpace(a.name + " " + a.takes) }

// actionCommand is an action as a command of its own, for its help.
func (s *session) actionCommand(of *cli.Command, a action) *cli.Command {
	about, more, _ := strings.Cut(a.help, "; ")
	c := cli.Command{
		Name: of.Name + " " + a.name, HelpName: Program + " " + of.Name + " " + a.name, Usage: about, ArgsUsage: a.takes,
		UsageText: strings.TrimSpace(Program + " " + of.Name + " [flags] " + a.syntax()),
	}
	if more != "" {
		c.Description = upperFirst(more) + "."
	}
	for _, f := range of.Flags {
		if slices.Contains(a.flags, f.Names()[0]) {
			c.Flags = append(c.Flags, f)
		}
	}
	if all := Program + " help " + of.Name; of.Description != "" {
		c.Description = strings.TrimPrefix(c.Description+"\n\n", "\n\n") + all + " tells what goes with it."
	}
	return s.command(c)
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// helpFor makes a command line that asks for help into the one of help itself: the library
// would take an action for a command.
func helpFor(c *cli.Command, args []string) []string {
	words := []string{c.Name}
	if len(args) > 0 && slices.Contains(actionNames(c.Name), args[0]) {
		words = append(words, args[0])
	}
	return append([]string{cmdHelp, "--"}, words...)
}

const cmdHelp = "help"

func (s *session) helpCommand() *cli.Command {
	return s.command(cli.Command{
		Name: cmdHelp, Usage: "show help for a command", ArgsUsage: "[COMMAND [ACTION]]", Category: categoryShell,
		Action: func(c *cli.Context) error {
			name, rest := c.Args().First(), c.Args().Tail()
			if name == "" {
				return cli.ShowAppHelp(c)
			}
			of := c.App.Command(name)
			switch {
			case of == nil:
				return noCommand(c.App, name)
			case len(rest) == 0:
				root := c.Lineage()[1] // the app's own context: its commands are the ones to look in
				return cli.ShowCommandHelp(root, name)
			}
			known := actionNames(name)
			i := slices.Index(known, rest[0])
			switch {
			case len(known) == 0:
				return usagef("%s has no actions: %s help %s shows all of its help", name, Program, name)
			case i < 0:
				return usagef("%s has no %q%s", name, rest[0], orHint(nearest(rest[0], known), strings.Join(known, ", ")))
			case len(rest) > 1:
				return usagef("help %s %s: %q is too much", name, rest[0], rest[1])
			}
			page := s.actionCommand(of, actionsOf(name)[i])
			cli.HelpPrinter(s.out, page.CustomHelpTemplate, page)
			return nil
		},
	})
}
