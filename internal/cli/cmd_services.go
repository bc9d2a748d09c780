package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

const cmdServices = "services"

// What the actions of services take.
const (
	takesNames = "NAME..."
	takesAny   = "[NAME...]"
	takesOne   = "NAME"
)

// servicesAction is one of the words that may follow services.
type servicesAction struct {
	name  string
	takes string // its arguments; "" = none
	flags []string
	help  string
	run   func(s *session, c *cli.Context, names []string) error
}

// servicesActionTable lists them, in the order of the help.
func servicesActionTable() []servicesAction {
	return []servicesAction{
		{"status", takesAny, []string{"json"}, "how each is, since when, its ports and what it uses; without an action it is the same of all", (*session).servicesStatus},
		{"up", takesAny, []string{"timeout"}, "start them, and what they need, and say how each comes along; ends with 0 when all are healthy, else with 1", (*session).servicesUp},
		{"down", takesAny, nil, "end them, after those that need them; they stay so until up", (*session).servicesDown},
		{"restart", takesNames, nil, "end each and start it again, and wait until it answers", (*session).servicesRestart},
		{"logs", takesNames, []string{"follow", "tail"}, "print what they write; of several, each line behind the name", (*session).servicesLogs},
		{"pull", takesAny, nil, "fetch the images of services, or such as are named like redis:7, and say how far they are", (*session).servicesPull},
		{"why", takesOne, []string{"json"}, "say in one sentence why a service is as it is; facts follow", (*session).servicesWhy},
		{"quit", "", nil, "end env-manager; the services go on", (*session).servicesQuit},
	}
}

func servicesActions() []action {
	var out []action
	for _, a := range servicesActionTable() {
		out = append(out, action{name: a.name, takes: a.takes, flags: a.flags, help: a.help})
	}
	return out
}

func (s *session) servicesCommand() *cli.Command {
	return s.command(cli.Command{
		Name: cmdServices, Usage: "show and move the supporting services", Category: categoryDaemon, ArgsUsage: "[ACTION [NAME...]]",
		Description: actionLines(servicesActions()) + "\nServices are containers (redis, kafka and such) that env-manager, a daemon of its own, keeps alive and starts in the\n" +
			"order in which they need each other; [services.NAME] in the configuration says what they are. Where no name is given, all\n" +
			"are meant. A user has one set of services on a host, whatever the workspace.\n\n" +
			"up starts env-manager where none runs; what it prints goes to logs/env-manager.out in the workspace, its log to\n" +
			"logs/env-manager.log. The other actions need one, and end with 4 where there is none. Ctrl-C leaves services as they are.",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.StringFlag{Name: "timeout", Usage: "with up: stop waiting after `TIME` and end with 1; services go on coming", DefaultText: "none"},
			boolFlag("follow", "with logs: go on printing, until Ctrl-C", "f"),
			&cli.IntFlag{Name: "tail", Aliases: []string{"n"}, Usage: "with logs: only the last `N` lines of each; 0 for all", DefaultText: "all"},
		},
		Action: s.servicesAction,
	})
}

func (s *session) servicesAction(c *cli.Context) error {
	name, names := c.Args().First(), c.Args().Tail()
	if c.NArg() == 0 {
		name = "status"
	}
	all := actionNames(cmdServices)
	i := slices.Index(all, name)
	if i < 0 {
		return usagef("services has no %q%s", name, orHint(nearest(name, all), strings.Join(all, ", ")))
	}
	action := servicesActionTable()[i]
	for _, flag := range []string{"json", "follow", "tail", "timeout"} {
		if c.IsSet(flag) && !slices.Contains(action.flags, flag) {
			return usagef("--%s does not go with services %s", flag, name)
		}
	}
	switch {
	case action.takes == "" && len(names) > 0:
		return usagef("services %s: %q is too much", name, names[0])
	case action.takes == takesOne && len(names) != 1:
		return usagef("services %s takes the name of one service; %s services lists them", name, Program)
	case action.takes == takesNames && len(names) == 0:
		return usagef("services %s takes the names of services; %s services lists them", name, Program)
	case slices.Contains(names, ""): // it would mean all, or nothing, of what a variable was to name
		return usagef("services %s was given an empty name; is a variable of the shell not set?", name)
	}
	return action.run(s, c, names)
}

// envManager is a connection to the env-manager of this user.
type envManager struct {
	pb.EnvManagerServiceClient
	pid   int
	close func() error
}

// dialEnvManager connects to it. Unless the answers are wanted raw, their text is fit to
// be printed.
func dialEnvManager(ctx context.Context, cfg config.Config, raw bool) (*envManager, error) {
	c, err := app.DialEnvManager(ctx, cfg)
	if err != nil {
		return nil, err
	}
	conn := c.Conn()
	if !raw {
		conn = defused{conn}
	}
	return &envManager{EnvManagerServiceClient: pb.NewEnvManagerServiceClient(conn), pid: c.Server(), close: c.Close}, nil
}

// withEnvManager calls fn with a connection to the env-manager that runs.
func (s *session) withEnvManager(c *cli.Context, raw bool, fn func(ctx context.Context, em *envManager) error) error {
	cfg, err := s.settings(c)
	if err != nil {
		return err
	}
	em, err := dialEnvManager(c.Context, cfg, raw)
	if err != nil {
		return err
	}
	defer func() { _ = em.close() }() // nothing is under way any more
	return fn(c.Context, em)
}

// serviceWords completes what follows services.
func (c *completion) serviceWords() []string {
	if len(c.args) == 0 {
		return actionNames(cmdServices)
	}
	i := slices.Index(actionNames(cmdServices), c.args[0])
	if i < 0 {
		return nil
	}
	switch takes := servicesActionTable()[i].takes; {
	case takes == "", takes == takesOne && len(c.args) > 1:
		return nil
	}
	defined, err := app.DefineServices(c.ctx, c.config(), c.s.env.Environ)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(defined.Names(), func(name string) bool { return slices.Contains(c.args[1:], name) })
}
