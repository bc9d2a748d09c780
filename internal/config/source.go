package config

import "strconv"

// SourceKind says which kind of place a value came from.
type SourceKind uint8

// The kinds, the weakest first: each wins over those before it.
const (
	FromDefault SourceKind = iota
	FromFile
	FromEnvironment
	FromFlag
)

// String returns "default", "file", "environment" or "flag".
func (k SourceKind) String() string {
	switch k {
	case FromFile:
		return "file"
	case FromEnvironment:
		return "environment"
	case FromFlag:
		return "flag"
	default:
		return "default"
	}
}

// Source is where a value came from.
type Source struct {
	Kind SourceKind
	Name string // path of the file, name of the variable or of the flag
	Line int    // in the file, from 1
}

// String says it in a few words: "flag --workspace", "environment ENV_QUEUE_DIR",
// "/home/ada/.dspy-agent/config.toml:12", "default".
func (s Source) String() string {
	switch s.Kind {
	case FromFile:
		return s.Name + ":" + strconv.Itoa(s.Line)
	case FromEnvironment:
		return "environment " + s.Name
	case FromFlag:
		return "flag --" + s.Name
	default:
		return "default"
	}
}

// command is the beginning of a command that reads that configuration file, too. What the
// environment says holds for the next command without more.
func (s Source) command(file string) string {
	if s.Kind == FromFlag {
		return "dspy-agent --" + s.Name + " " + file
	}
	return "dspy-agent"
}

// Source returns where the value of a key came from.
func (c Config) Source(key string) Source { return c.sources[key] }
