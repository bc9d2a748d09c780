package config

import (
	"cmp"
	"os"
	"path/filepath"
	"time"
)

// Given is what the caller found outside: flags and environment. An empty
// string means "not given".
type Given struct {
	WorkspaceFlag string              // --workspace
	Found         string              // the workspace when none is named, if not Cwd
	ConfigFlag    string              // --config
	Flags         map[string]string   // other flags of settings, by Setting.Flag
	Cwd           string              // where the command runs
	Lookup        func(string) string // environment; nil = empty
}

// Load returns the effective configuration: a flag wins over the environment,
// which wins over the file of ENV_MANAGER_CONFIG, which wins over the configuration
// file, which wins over the default. Relative paths are resolved against the workspace,
// never against where a daemon happens to run.
//
// An error is a task.Error with CodeInvalid around an InvalidError, which has
// everything that is wrong.
func Load(g Given) (Config, error) {
	c, err := LoadReadable(g)
	if err != nil {
		return Config{}, err
	}
	return c, nil
}

// LoadReadable does the same, and with an InvalidError returns what could be read all the
// same: where a setting could not, its default. That is good for finding a daemon that runs,
// and for nothing that makes or opens a queue.
func LoadReadable(g Given) (Config, error) {
	if g.Lookup == nil {
		g.Lookup = func(string) string { return "" }
	}
	ws, err := g.workspace()
	if err != nil {
		return Config{}, err
	}
	b := newBuilder(base{workspace: ws, home: g.home()})
	if g.WorkspaceFlag != "" {
		b.conf.sources[keyWorkspace] = Source{Kind: FromFlag, Name: flagWorkspace}
	}
	b.readFile(g.configFile(ws))
	b.readEnvManagerFile(g.Lookup)
	b.environment(g.Lookup)
	if g.WorkspaceFlag != "" { // who names a workspace means its daemon, whatever a shell has exported for programs
		b.conf.GRPCAddr = ""
		delete(b.conf.sources, keyDialAddr)
	}
	b.flags(g.Flags)
	b.consistent()
	return b.finish(), Invalid(b.problems)
}

// workspace resolves the folder that is meant.
func (g Given) workspace() (string, error) {
	ws := cmp.Or(g.WorkspaceFlag, g.Found, g.Cwd)
	if !filepath.IsAbs(ws) {
		ws = filepath.Join(g.Cwd, ws)
	}
	if !filepath.IsAbs(ws) {
		return "", Invalid([]Problem{{Key: keyWorkspace, Text: "workspace " + quote(ws) + " is not a path that can be made absolute"}})
	}
	// The same folder reached by two ways must be one workspace, with one socket.
	if real, err := filepath.EvalSymlinks(ws); err == nil {
		ws = real
	}
	return filepath.Clean(ws), nil
}

// home is where ~ is; "" when the environment does not say.
func (g Given) home() string {
	if h := g.Lookup("HOME"); filepath.IsAbs(h) {
		return filepath.Clean(h)
	}
	return ""
}

// configFile returns which file is meant, and by whom; "" without a home to look
// in.
func (g Given) configFile(workspace string) (path string, from Source) {
	switch named := g.Lookup(envConfig); {
	case g.ConfigFlag != "":
		path, from = g.ConfigFlag, Source{Kind: FromFlag, Name: flagConfig}
		if !filepath.IsAbs(path) { // somebody typed it, with the shell's completion
			path = filepath.Join(g.Cwd, path)
		}
	case named != "":
		path, from = named, Source{Kind: FromEnvironment, Name: envConfig}
		if !filepath.IsAbs(path) { // the daemon inherits it, and runs elsewhere
			path = filepath.Join(workspace, path)
		}
	case g.home() != "":
		path = DefaultFile(g.home())
	default:
		return "", from
	}
	return filepath.Clean(path), from
}

// DefaultFile is the configuration file that is read when none is named.
func DefaultFile(home string) string { return filepath.Join(home, ".dspy-agent", "config.toml") }

func (b *builder) readFile(path string, from Source) {
	b.conf.File = path
	if from.Kind != FromDefault {
		b.conf.sources[keyConfig] = from
	}
	if path == "" {
		return
	}
	data, at, found, wrong := readFile(path, os.Geteuid())
	if !found && from.Kind != FromDefault {
		wrong = "there is no such file, and " + from.String() + " names it; " + from.command(path) + " config init writes it"
	}
	if wrong != "" {
		b.problems = append(b.problems, Problem{File: path, Text: wrong})
		return
	}
	b.conf.fileRead, b.conf.fileTime = found, at
	b.file(path, data)
}

// FileRead says whether the configuration file was there.
func (c Config) FileRead() bool { return c.fileRead }

// FileTime returns when the configuration file had been changed last as it was read; zero
// where it was not there.
func (c Config) FileTime() time.Time { return c.fileTime }

// FileFor returns the configuration file that Load would read, whether it is
// there or not.
func FileFor(g Given) (string, error) {
	if g.Lookup == nil {
		g.Lookup = func(string) string { return "" }
	}
	ws, err := g.workspace()
	if err != nil {
		return "", err
	}
	path, _ := g.configFile(ws)
	if path == "" {
		return "", Invalid([]Problem{{Key: keyConfig, Text: "HOME is not set, so there is no place for a configuration file; name one with --config FILE"}})
	}
	return path, nil
}
