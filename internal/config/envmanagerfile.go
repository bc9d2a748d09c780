package config

import (
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/spelling"
)

// tableOverrides is the list of tables in the file of ENV_MANAGER_CONFIG.
const tableOverrides = "service_overrides"

// FileKey is a key of the file of ENV_MANAGER_CONFIG, for the documentation.
type FileKey struct {
	Name string // in that file
	Key  string // that it sets
	Type string
	// Example is a value as that file has it.
	Example string
}

// envManagerKey is such a key: its name there, and the setting.
type envManagerKey struct {
	name string
	field[Config]
}

// envManagerKeys are the keys above the first table of that file. They are older than
// ours, and stay.
var envManagerKeys = []envManagerKey{
	{"grpc_addr", envManagerField(keyEnvManagerGRPC)},
	{"metrics_http_addr", envManagerField(keyEnvManagerHTTP)},
	{"docker_host", envManagerField(keyEnvManagerDocker)},
	{"max_concurrent_starts", envManagerField(keyEnvManagerStarts)},
	{"health_check_timeout_secs", at(keyHealthTimeout, seconds(1, int(oneDay/time.Second)), func(c *Config) *time.Duration { return &c.EnvManager.HealthTimeout }, Setting{Example: `120`})},
	{"health_check_max_attempts", envManagerField(keyHealthAttempts)},
	{"verbose_logging", envManagerField(keyVerbose)},
}

func envManagerField(key string) field[Config] {
	return envManagerFields[slices.IndexFunc(envManagerFields, func(f field[Config]) bool { return f.Key == key })]
}

// EnvManagerFileKeys lists the keys above the first table of the file of
// ENV_MANAGER_CONFIG.
func EnvManagerFileKeys() []FileKey {
	var out []FileKey
	for _, k := range envManagerKeys {
		out = append(out, FileKey{Name: k.name, Key: k.Key, Type: k.Type, Example: k.Example})
	}
	return out
}

// readEnvManagerFile takes in the file of ENV_MANAGER_CONFIG, which a variable or the
// configuration file names.
func (b *builder) readEnvManagerFile(lookup func(string) string) {
	b.variables(envManagerField(keyEnvManagerFile), lookup)
	path := b.conf.EnvManager.File
	if path == "" {
		return
	}
	data, _, found, wrong := readFile(path, os.Geteuid())
	if !found {
		wrong = "there is no such file, and " + b.conf.Source(keyEnvManagerFile).String() + " names it"
	}
	if wrong != "" {
		b.problems = append(b.problems, Problem{File: path, Text: wrong})
		return
	}
	b.envManagerFile(path, data)
}

// envManagerFile takes in what that file says.
func (b *builder) envManagerFile(path string, data []byte) {
	d := parse(path, data, tableOverrides)
	b.problems = append(b.problems, d.problems...)
	names := b.overridden(path, d)
	for _, t := range d.tables {
		if t.item == 0 && !b.full(path, t.line) {
			b.strangeTable(t, Source{Kind: FromFile, Name: path, Line: t.line})
		}
	}
	for _, l := range d.leaves {
		if b.full(path, l.line) {
			return
		}
		from := Source{Kind: FromFile, Name: path, Line: l.line}
		if l.item == 0 {
			b.envManagerKey(l, from)
			continue
		}
		if name := names[l.item]; name != "" && l.path[1] != keyName {
			b.overrideKey(name, l, from)
		}
	}
}

const keyName = "name"

// overridden returns the service that each item of the list is about; "" where that
// cannot be told, which is complained about.
func (b *builder) overridden(path string, d *document) map[int]string {
	names, lines := map[int]string{}, map[string]int{}
	given := map[int]leaf{}
	for _, l := range d.leaves {
		if l.item > 0 && len(l.path) == 2 && l.path[1] == keyName {
			given[l.item] = l
		}
	}
	for _, t := range d.tables {
		if t.item == 0 || len(t.path) > 1 || b.full(path, t.line) {
			continue
		}
		from := Source{Kind: FromFile, Name: path, Line: t.line}
		l, ok := given[t.item]
		if !ok {
			b.problem(from, tableOverrides+"."+keyName, "[[%s]] does not say which service is meant; add name = \"redis\", say", tableOverrides)
			continue
		}
		from.Line = l.line
		switch name := l.val.text; {
		case l.val.kind != kindText:
			b.problem(from, tableOverrides+"."+keyName, "%s.name is %s; write the name of a service, in quotes", tableOverrides, l.val.shown())
		case lines[name] > 0:
			b.problem(from, tableOverrides+"."+keyName, "there are two [[%s]] for %s, the other in line %d; make one of them", tableOverrides, quote(name), lines[name])
		case b.service(name, from):
			names[t.item], lines[name] = name, l.line
		}
	}
	return names
}

func (b *builder) envManagerKey(l leaf, from Source) {
	key := keyText(l.path)
	i := slices.IndexFunc(envManagerKeys, func(k envManagerKey) bool { return k.name == key })
	switch {
	case i >= 0:
		assign(b, envManagerKeys[i].field, &b.conf, envManagerKeys[i].Key, key, l.val, from)
	case l.path[0] == tableOverrides:
		b.strangeTable(place{path: l.path[:1]}, from)
	case len(l.path) > 1:
		b.strangeTable(place{path: l.path[:len(l.path)-1]}, from)
	default:
		b.strangeKey(from, key, key, envManagerNames(), "this file has ")
	}
}

func (b *builder) overrideKey(name string, l leaf, from Source) {
	called, rest := keyText(l.path), l.path[1:]
	switch {
	case !slices.Contains(serviceKeys(), rest[0]):
		b.strangeKey(from, keyText(l.path[:2]), rest[0], overrideKeys(), "[["+tableOverrides+"]] has ")
	case len(rest) > 2 || len(rest) == 2 && rest[0] != keyEnv:
		b.problem(from, called, "there is no key %s, since %s is no table", called, keyText(l.path[:2]))
	default:
		b.serviceValue(name, rest, called, l.val, from)
	}
}

func overrideKeys() []string { return append([]string{keyName}, serviceKeys()...) }

// strangeKey complains about a key that there is not.
func (b *builder) strangeKey(from Source, called, last string, known []string, there string) {
	if meant := spelling.Nearest(last, known, 2); meant != "" {
		b.problem(from, called, "there is no key %s; did you mean %s?", called, strings.TrimSuffix(called, last)+meant)
		return
	}
	b.problem(from, called, "there is no key %s; %s%s", called, there, strings.Join(known, ", "))
}

// strangeTable complains about a table that there is not, once.
func (b *builder) strangeTable(p place, from Source) {
	name := keyText(p.path)
	if p.path[0] == tableOverrides {
		name = tableOverrides
	}
	said := slices.ContainsFunc(b.problems, func(o Problem) bool { return o.Key == "["+name+"]" && o.File == from.Name })
	switch {
	case said:
	case p.path[0] == tableOverrides:
		b.problem(from, "["+name+"]", "%s is a list of tables: write [[%s]], and its keys below", tableOverrides, tableOverrides)
	default:
		b.problem(from, "["+name+"]", "there is no table [%s] in this file; what is said about services stands in [[%s]], which has %s", name, tableOverrides, strings.Join(overrideKeys(), ", "))
	}
}

func envManagerNames() []string {
	var out []string
	for _, k := range envManagerKeys {
		out = append(out, k.name)
	}
	return append(out, tableOverrides)
}
