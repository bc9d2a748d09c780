package cli

import (
	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// laterParts are the parts of later releases that a daemon names; doctor says what
// there is of them.
var laterParts = []string{"env-manager", "kafka"}

// laterFlags are options of submit whose part is not in this release. They are
// refused with the reason: running a task without the GPU that it asked for
// would be worse than not running it.
var laterFlags = []struct{ name, usage, why string }{
	{"needs", "supporting `SERVICE` that must be healthy", "supporting services are not in this release yet; start what the task needs yourself"},
}

func laterFlagDefs() []cli.Flag {
	var out []cli.Flag
	for _, f := range laterFlags {
		out = append(out, &cli.StringFlag{Name: f.name, Usage: f.usage + " (not in this release yet: refused)", Category: categoryLater})
	}
	return out
}

// refuseLater refuses flags whose part comes later.
func refuseLater(c *cli.Context) error {
	for _, f := range laterFlags {
		if c.IsSet(f.name) {
			return task.Errorf(task.CodeUnsupported, "--%s: %s", f.name, f.why)
		}
	}
	return nil
}

// checkClass refuses an unknown class with the known ones.
func checkClass(cfg config.Config, name string) error {
	if _, err := cfg.Class(name); err != nil {
		return usagef("%s", err)
	}
	return nil
}

// emptyClass refuses a class that was given and is empty, as --class "$CLASS" is where the
// variable is not set: leaving it out would mean something else.
func emptyClass(given bool, name string) error {
	if given && name == "" {
		return usagef("--class is empty; is a variable of the shell not set? Leave --class out if no class is meant")
	}
	return nil
}
