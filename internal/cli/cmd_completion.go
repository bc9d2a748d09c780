package cli

import (
	_ "embed"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// The scripts ask the program itself (cmd_complete.go), so that they need not
// be made again when it learns something.
var (
	//go:embed completion/dspy-agent.bash
	completionBash string
	//go:embed completion/dspy-agent.zsh
	completionZsh string
	//go:embed completion/dspy-agent.fish
	completionFish string

	completionScripts = map[string]string{"bash": completionBash, "zsh": completionZsh, "fish": completionFish}
)

const cmdCompletion = "completion"

var completionActions = []action{
	{"bash", "", nil, "for ~/.bashrc: source <(dspy-agent completion bash)"},
	{"zsh", "", nil, "for ~/.zshrc, after compinit: source <(dspy-agent completion zsh)"},
	{"fish", "", nil, "once: dspy-agent completion fish > ~/.config/fish/completions/dspy-agent.fish"},
}

func (s *session) completionCommand() *cli.Command {
	return s.command(cli.Command{
		Name: cmdCompletion, Usage: "print the completion script of a shell", ArgsUsage: "bash|zsh|fish", Category: categoryShell,
		Description: actionLines(completionActions),
		Action: func(c *cli.Context) error {
			shells := slices.Sorted(maps.Keys(completionScripts))
			script, ok := completionScripts[c.Args().First()]
			if c.NArg() != 1 || !ok {
				return usagef("completion takes the name of one shell: %s", strings.Join(shells, ", "))
			}
			s.out.printf("%s", script)
			return nil
		},
	})
}
