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

func (s *session) completionCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "completion", Usage: "print the completion script of a shell", ArgsUsage: "bash|zsh|fish", Category: categoryShell,
		Description: "bash  source <(dspy-agent completion bash)     in ~/.bashrc\n" +
			"zsh   source <(dspy-agent completion zsh)      in ~/.zshrc, after compinit\n" +
			"fish  dspy-agent completion fish > ~/.config/fish/completions/dspy-agent.fish",
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
