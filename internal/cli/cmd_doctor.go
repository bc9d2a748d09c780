package cli

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// The levels of a finding.
const (
	levelOK    = "ok"
	levelWarn  = "warn"
	levelFail  = "fail"
	levelLater = "later" // not in this release yet
)

var levelColours = map[string]string{levelOK: green, levelWarn: yellow, levelFail: red, levelLater: dim}

func (s *session) doctorCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "doctor", Usage: "look for what could stand in the way, and say how to mend it", Category: categoryDaemon,
		Description: "Ends with 1 if anything failed; warnings do not count.",
		Flags:       []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			cfg, err := s.config(c)
			if err != nil {
				return err
			}
			return s.doctor(c.Context, cfg, c.Bool("json"))
		},
	})
}

// checks are made in this order.
var checks = []func(context.Context, *session, config.Config) []jsonFinding{
	checkPrograms, checkWorkspace, checkFileSystem, checkSpace, checkRuntimeDir, checkDaemon,
	checkClock, checkOpenFiles, checkLogin, checkLater,
}

func (s *session) doctor(ctx context.Context, cfg config.Config, asJSON bool) error {
	all := []jsonFinding{}
	failed := 0
	for _, check := range checks {
		for _, f := range check(ctx, s, cfg) {
			all = append(all, f)
			if f.Level == levelFail {
				failed++
			}
			if !asJSON {
				s.tellFinding(f)
			}
		}
	}
	if asJSON {
		if err := writeJSON(s.out, all); err != nil {
			return err
		}
	}
	if failed > 0 {
		return &exitError{code: exitFailed, msg: count(int64(failed), "check") + " failed"}
	}
	return nil
}

func (s *session) tellFinding(f jsonFinding) {
	if !s.out.tty {
		s.out.printf("%s\t%s\t%s\t%s\n", f.Level, f.Check, oneLine(f.Text), oneLine(f.Mend))
		return
	}
	s.out.printf("%s %-12s %s\n", s.out.paint(levelColours[f.Level], fmt.Sprintf("%-5s", f.Level)), f.Check, oneLine(f.Text))
	if f.Mend != "" {
		s.out.printf("%-18s %s %s\n", "", s.out.paint(bold, "mend:"), oneLine(f.Mend))
	}
}

// finding makes the only finding of a check.
func finding(check, level, text, mend string) []jsonFinding {
	return []jsonFinding{{Check: check, Level: level, Text: text, Mend: mend}}
}

// laterParts are the parts that people will look for and that come with a later
// release. The daemon names them, too.
var laterParts = []string{"docker", "env-manager", "gpu", "kafka", "slurm"}

func checkLater(context.Context, *session, config.Config) []jsonFinding {
	var out []jsonFinding
	for _, part := range laterParts {
		out = append(out, finding(part, levelLater, "not in this release yet", "")...)
	}
	return out
}
