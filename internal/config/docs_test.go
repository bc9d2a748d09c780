package config_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

// TestDocs renders docs/configuration.md from the table of settings, and fails
// when the file says something else.
func TestDocs(t *testing.T) {
	const path = "../../docs/configuration.md"
	want := renderDocs()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil { //nolint:gosec // documentation
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; make it with: go test ./internal/config -run TestDocs -update", err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date; make it with: go test ./internal/config -run TestDocs -update", path)
	}
}

const docsHead = `# Configuration

This file is rendered from the table of settings by ` + "`go test ./internal/config -run TestDocs -update`" + `.

Nothing has to be configured. What is given counts in this order: a flag, then the environment, then the file, then the
default. (env-manager has one more file, further down, which counts before the other.) ` + "`dspy-agent config show`" + ` prints
what holds and where each value came from.

` + "```" + `
dspy-agent config init           writes ~/.dspy-agent/config.toml, with every key and its default as comments
dspy-agent config check [FILE]   says everything that is wrong with a file, each with its line
dspy-agent config show [KEY]     what holds, and why
` + "```" + `

A daemon reads the configuration when it is started; ` + "`dspy-agent stop`" + ` and ` + "`start`" + ` make it read it again, and leave
running tasks alone.

## The file

It is TOML: ` + "`~/.dspy-agent/config.toml`" + `, or the one that ` + "`--config FILE`" + ` or ` + "`DSPY_AGENT_CONFIG`" + ` names, which then has to be
there; ` + "`--config /dev/null`" + ` is no file. What is unknown, does not parse, or would have no effect is an error that names the
key, its line, and what is allowed; all errors are reported at once, and nothing is started or submitted with half a
configuration. Commands that only call a daemon which runs, such as ps, cancel and stop, warn and go on.

The file says which programs run as you. So it is refused when it belongs to another user (but for root), or when a
group or others can write it. It must be a regular file of at most 1 MiB in UTF-8; links are followed, a byte order mark
and Windows line ends do no harm.

How values are written:

| type | |
|---|---|
| path | absolute, below the home (` + "`~/x`" + `, in the file only), or relative to the workspace, wherever a command runs |
| duration | with its unit: ` + "`\"90s\"`, `\"10m\"`, `\"1h30m\"`, `\"7d\"`" + ` |
| size | with its unit: ` + "`\"12GiB\"`" + ` is of 1024, ` + "`\"500MB\"`" + ` of 1000; ` + "`\"12G\"`" + ` could be either, and is an error |
| address | ` + "`HOST:PORT`" + `; port 0 is any that is free; ` + "`\"none\"`" + ` is a door that is not opened |
`

func renderDocs() string {
	var b strings.Builder
	b.WriteString(docsHead)
	for _, table := range docTables() {
		docSection(&b, table)
		for _, s := range config.Settings() {
			if docTable(s) == table {
				docSetting(&b, s)
			}
		}
	}
	docEnvManagerFile(&b)
	b.WriteString("\n## A file with everything\n\nThis is what `dspy-agent config init` writes.\n\n```toml\n" + config.Reference() + "```\n")
	return b.String()
}

// docTables lists the tables in the order in which they first come, each once.
func docTables() []string {
	var out []string
	for _, s := range config.Settings() {
		if t := docTable(s); !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

// docTable is the table of the file that a setting is documented under.
func docTable(s config.Setting) string {
	i := strings.LastIndexByte(s.Key, '.')
	switch {
	case s.Later != "":
		return "later"
	case s.Outside != "":
		return "outside"
	case i < 0:
		return ""
	}
	return s.Key[:i]
}

var docIntros = map[string]string{
	"outside": "## Outside the file\n\nThese come from flags and the environment alone.",
	"":        "## Places and addresses\n\nKeys above the first table of the file.",
	"later":   "## For a later release\n\nThese variables are read and shown, and nothing uses them yet. The keys cannot be set in the file.",
	"classes.NAME": "## [classes.NAME]\n\nA class is a kind of task. cpu_short, cpu_long, gpu_short, gpu_long, gpu and gpu_slurm are always there; what is left out in\n" +
		"their tables stays as it is. Any other name (small letters, digits and _) makes a new class with the defaults below.",
	"types.NAME": "## [types.NAME]\n\nA task type is a program that a payload can name, as in `{\"type\": \"rl_sweep\"}`, instead of bringing a command. The payload goes\n" +
		"to the program.",
	"env_manager": "## [env_manager]\n\nenv-manager keeps the supporting services (Redis, Kafka ...) as containers. What is said here counts when it is started.",
	"services.NAME": "## [services.NAME]\n\nA supporting service. redis, reddb, zookeeper, kafka, ollama, prometheus, infermesh-node-a, infermesh-node-b and infermesh-router\n" +
		"are built in: in their tables, what is left out stays as it is. A key that is given takes the place of what is built in, a list that of the\n" +
		"whole list; only variables are replaced one by one. Any other name (small letters, digits, `_`, `.` and `-`) makes a new service with the defaults\n" +
		"below, which needs an image. One that others depend on can be disabled only together with them.",
}

// docEnvManagerFile describes the file of ENV_MANAGER_CONFIG.
func docEnvManagerFile(b *strings.Builder) {
	b.WriteString("\n## The file of ENV_MANAGER_CONFIG\n\n" +
		"env-manager has a file of its own, with keys of its own, which many have already: the one that `ENV_MANAGER_CONFIG` or\n" +
		"`env_manager.config` names. It is read after the configuration file and before the environment, so what it says wins over\n" +
		"the former and not over the latter. The same rules hold for it: unknown keys are refused, each mistake has its line, and nobody\n" +
		"else may be able to write it. `dspy-agent config check` looks at both. All its keys are optional.\n\n" +
		"| key there | type | sets | example |\n|---|---|---|---|\n")
	for _, k := range config.EnvManagerFileKeys() {
		typ := k.Type
		if strings.HasSuffix(k.Name, "_secs") {
			typ += " of seconds"
		}
		fmt.Fprintf(b, "| `%s` | %s | `%s` | `%s` |\n", k.Name, typ, k.Key, k.Example)
	}
	b.WriteString("\nWhat it says about services stands in `[[service_overrides]]`, one for each, with `name` and the keys of `[services.NAME]`:\n\n" +
		"```toml\nmax_concurrent_starts = 3\nhealth_check_timeout_secs = 120\n\n[[service_overrides]]\nname = \"kafka\"\nrequired = true\n" +
		"environment = [\"KAFKA_HEAP_OPTS=-Xmx512m\"]\n\n[[service_overrides]]\nname = \"ollama\"\nenabled = false\n```\n")
}

func docSection(b *strings.Builder, table string) {
	intro, ok := docIntros[table]
	if !ok {
		intro = "## [" + table + "]"
	}
	fmt.Fprintf(b, "\n%s\n\n| key | type | default | variable, flag | meaning | example |\n|---|---|---|---|---|---|\n", intro)
}

func docSetting(b *strings.Builder, s config.Setting) {
	var also []string
	for _, v := range s.Env {
		also = append(also, "`"+v+"`")
	}
	if s.Flag != "" {
		flagged := "`--" + s.Flag + "`"
		if s.Outside == "" {
			flagged += " of `orchestrator`" // the daemon's program; dspy-agent has no flags of settings
		}
		also = append(also, flagged)
	}
	def := "`" + s.Default + "`"
	if s.Zero != "" && isZero(s.Default) {
		def += ": " + s.Zero
	} else if s.Zero != "" {
		s.Meaning += "; 0 = " + s.Zero
	}
	key := s.Key
	if i := strings.LastIndexByte(key, '.'); i >= 0 && s.Later == "" {
		key = key[i+1:]
	}
	fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s | `%s` |\n", key, s.Type, cell(def), strings.Join(also, " "), cell(s.Meaning), cell(s.Example))
}

func isZero(literal string) bool {
	switch literal {
	case `""`, "0", `"0s"`, `"0B"`, "[]", "{}", `"none"`:
		return true
	}
	return false
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
