package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/services"
	"github.com/dspy-agent/dspy-agent/internal/spelling"
)

const cmdConfig = "config"

// configActions are the words that may follow config.
var configActions = []action{
	{"show", "[KEY]", []string{"json"}, "what holds, and where each value came from; KEY may be a table, such as capacity"},
	{"init", "", []string{"force"}, "write a file with every key and its default, as comments"},
	{"check", "[FILE]", []string{"json"}, "say everything that is wrong with a file; ends with 2 if anything is"},
}

func (s *session) configCommand() *cli.Command {
	return s.command(cli.Command{
		Name: cmdConfig, Usage: "show, write and check the configuration", ArgsUsage: "show [KEY] | init | check [FILE]", Category: categoryDaemon,
		Description: actionLines(configActions) + "\n" +
			"docs/configuration.md lists the keys. A daemon reads the file when it is started.",
		Flags: []cli.Flag{jsonFlag(), boolFlag("force", "let init replace a file that is there")},
		Action: func(c *cli.Context) error {
			action, args := c.Args().First(), c.Args().Tail()
			switch {
			case action == "":
				return usagef("config takes one of %s", strings.Join(actionNames(cmdConfig), ", "))
			case c.Bool("force") && action != "init":
				return usagef("--force goes with config init")
			case len(args) > 1 || len(args) == 1 && action == "init":
				return usagef("config %s: %q is too much", action, args[len(args)-1])
			}
			switch arg := c.Args().Get(1); action {
			case "show":
				return s.configShow(c, arg)
			case "init":
				return s.configInit(c)
			case "check":
				return s.configCheck(c, arg)
			default:
				return usagef("config has no %q%s", action, orHint(nearest(action, actionNames(cmdConfig)), strings.Join(actionNames(cmdConfig), ", ")))
			}
		},
	})
}

// orHint ends a complaint about a word: with what was meant, else with what
// there is.
func orHint(meant, all string) string {
	if meant != "" {
		return hint(meant)
	}
	return "; there are " + all
}

func (s *session) configShow(c *cli.Context, key string) error {
	cfg, err := s.settings(c)
	if err != nil {
		return err
	}
	values, err := chosenValues(cfg, key)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(s.out, configJSON(cfg, values))
	}
	g := &grid{header: []string{"KEY", "VALUE", "FROM"}, whole: []int{0}}
	for _, v := range values {
		from := v.Source.String()
		if v.Key == cmdConfig && cfg.File != "" && !cfg.FileRead() {
			from += ", not there"
		}
		g.add(v.Key, s.valueText(v), oneLine(from))
	}
	g.write(s.out)
	return nil
}

// valueText is a value in the list: for people with what it stands for.
func (s *session) valueText(v config.Value) string {
	text := oneLine(v.Text())
	switch {
	case v.Later != "" && s.out.tty:
		return strings.TrimSpace(text + " (no effect in this release)")
	case v.Zero != "" && s.out.tty:
		return strings.TrimSpace(text + " (" + v.Zero + ")")
	}
	return text
}

// chosenValues returns the values of a key or a table; of all for "".
func chosenValues(cfg config.Config, key string) ([]config.Value, error) {
	all := cfg.Values()
	if key == "" {
		return all, nil
	}
	chosen := slices.DeleteFunc(slices.Clone(all), func(v config.Value) bool {
		return v.Key != key && !strings.HasPrefix(v.Key, key+".")
	})
	if len(chosen) == 0 {
		var keys []string
		for _, v := range all {
			keys = append(keys, v.Key)
		}
		return nil, usagef("there is no key %q%s", key, orHint(spelling.Nearest(key, withTables(keys), 3), "those that dspy-agent config show lists"))
	}
	return chosen, nil
}

func configJSON(cfg config.Config, values []config.Value) jsonConfig {
	j := jsonConfig{File: cfg.File, FileRead: cfg.FileRead(), Settings: []jsonSetting{}}
	for _, v := range values {
		j.Settings = append(j.Settings, jsonSetting{
			Key: v.Key, Value: v.Plain, Means: v.Zero, Later: v.Later,
			Source: v.Source.Kind.String(), Name: v.Source.Name, Line: v.Source.Line,
		})
	}
	return j
}

func (s *session) configInit(c *cli.Context) error {
	if c.Bool("json") {
		return usagef("config init prints no JSON")
	}
	given, err := s.given(c)
	if err != nil {
		return err
	}
	path, err := config.FileFor(given)
	if err != nil {
		return err
	}
	if err := config.WriteReference(path, c.Bool("force")); err != nil {
		return err
	}
	s.out.printf("wrote %s; remove the # before a key to set it\n", path)
	return nil
}

// configCheck looks at a file alone when one is named, else at all that would be
// read, the environment included.
func (s *session) configCheck(c *cli.Context, file string) error {
	given, err := s.given(c)
	if err != nil {
		return err
	}
	if file != "" {
		given.ConfigFlag = file
		given.Lookup = s.homeOnly
	}
	j := jsonConfigCheck{Problems: []jsonProblem{}}
	cfg, err := config.Load(given)
	if err == nil {
		err = services.Check(cfg)
	}
	if missing := s.fileArg(file); file != "" && !exists(missing) { // which is not the flag's doing, as Load would say
		err = &config.InvalidError{Problems: []config.Problem{{File: missing, Text: "there is no such file"}}}
	}
	wrong, known := errors.AsType[*config.InvalidError](err)
	switch {
	case known:
		for _, p := range wrong.Problems {
			j.Problems = append(j.Problems, jsonProblem{File: p.File, Line: p.Line, Key: p.Key, Text: p.Text})
		}
	case err != nil:
		return err
	default:
		j.OK, j.File, j.FileRead = true, cfg.File, cfg.FileRead()
	}
	if c.Bool("json") {
		if err := writeJSON(s.out, j); err != nil {
			return err
		}
	} else {
		s.tellCheck(cfg, wrong)
	}
	if wrong != nil {
		return &exitError{code: exitUsage, msg: count(int64(len(wrong.Problems)), "mistake")}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func (s *session) homeOnly(name string) string {
	if name == "HOME" {
		return s.env.getenv(name)
	}
	return ""
}

func (s *session) tellCheck(cfg config.Config, wrong *config.InvalidError) {
	switch {
	case wrong != nil:
		for _, p := range wrong.Problems {
			s.out.printf("%s\n", oneLine(p.String()))
		}
	case cfg.FileRead():
		s.out.printf("%s: no mistakes\n", oneLine(cfg.File))
	default:
		s.out.printf("there is no configuration file (%s), so the defaults hold; %s config init writes one\n", oneLine(filepath.Clean(cfg.File)), Program)
	}
	if wrong == nil && cfg.EnvManager.File != "" {
		s.out.printf("%s: no mistakes\n", oneLine(cfg.EnvManager.File))
	}
}

// configWords completes what follows config; before are the words after it.
func (c *completion) configWords(before []string) []string {
	switch {
	case len(before) == 0:
		return actionNames(cmdConfig)
	case len(before) > 1 || before[0] != "show":
		return nil // a file, which the shell knows
	}
	cfg := c.config()
	return withTables(cfg.Keys())
}

// withTables adds the tables that keys are in, each of which stands for all of its keys.
func withTables(keys []string) []string {
	all := slices.Clone(keys)
	for _, k := range keys {
		for i := strings.LastIndexByte(k, '.'); i > 0; i = strings.LastIndexByte(k, '.') {
			k = k[:i]
			all = append(all, k)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// jsonConfig is the answer of config show.
type jsonConfig struct {
	File     string        `json:"file,omitempty" doc:"the configuration file"`
	FileRead bool          `json:"file_read" doc:"it is there"`
	Settings []jsonSetting `json:"settings" doc:"the effective settings"`
}

// jsonSetting is a setting of config show.
type jsonSetting struct {
	Key    string `json:"key" doc:"as in the file"`
	Value  any    `json:"value" doc:"a text, number, boolean or list; sizes are bytes, durations as in the file"`
	Means  string `json:"means,omitempty" doc:"what an empty value or 0 stands for"`
	Later  string `json:"later,omitempty" doc:"why the value has no effect in this release"`
	Source string `json:"source" doc:"default, file, environment or flag"`
	Name   string `json:"name,omitempty" doc:"of the file, the variable or the flag"`
	Line   int    `json:"line,omitempty" doc:"in the file"`
}

// jsonConfigCheck is the answer of config check.
type jsonConfigCheck struct {
	OK       bool          `json:"ok" doc:"nothing is wrong"`
	File     string        `json:"file,omitempty" doc:"the file that was looked at, when nothing is wrong"`
	FileRead bool          `json:"file_read" doc:"it is there, and nothing is wrong"`
	Problems []jsonProblem `json:"problems" doc:"everything that is wrong"`
}

// jsonProblem is a mistake in the configuration.
type jsonProblem struct {
	File string `json:"file,omitempty" doc:"the file; absent when it is about the environment or a flag"`
	Line int    `json:"line,omitempty" doc:"in the file; absent when it is about the whole"`
	Key  string `json:"key,omitempty" doc:"the key, variable or flag"`
	Text string `json:"text" doc:"what is wrong and what to do"`
}
