package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

// TestDocs renders docs/cli.md from the commands, the exit codes, the JSON names
// and the environment, and fails when the file says something else.
func TestDocs(t *testing.T) {
	const path = "../../docs/cli.md"
	want := renderDocs()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil { //nolint:gosec // documentation
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; make it with: go test ./internal/cli -run TestDocs -update", err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date; make it with: go test ./internal/cli -run TestDocs -update", path)
	}
}

func renderDocs() string {
	var b bytes.Buffer
	app := newSession(Env{}).app()
	b.WriteString("# The command line\n\nThis file is rendered from the program by `go test ./internal/cli -run TestDocs -update`.\n\n" +
		"Flags may stand before or after arguments; what follows `--` belongs to the task. `--workspace DIR` goes with every\n" +
		"command and says whose queue is meant; without it, that of the nearest folder from the current one up (not above the\n" +
		"home folder) that has a queue of yours, else of the current one. `start` makes a queue in the current folder.\n" +
		"`--config FILE` names the configuration.\n\n" +
		"`show`, `why`, `result`, `logs` and `wait` take the beginning or the end of an id, of at least six characters, for the\n" +
		"whole if it is that of one task only (an end: among the newest 10,000); `cancel` and `retry` want the whole id.\n\n" +
		"Ids may have slashes, so that those of a sweep are `exp/lr-0.1`, `exp/lr-0.2`: to `ps`, `wait`, `cancel` and `retry` an argument\n" +
		"that ends with a slash, as `exp/`, means all tasks whose ids begin so. `wait` looks at all\n" +
		"of them; `cancel` and `retry` at those that `--class` would mean, or `--state` says. That there is none is an error to these\n" +
		"three, exit code 3; `ps` lists none, and ends with 0.\n\n")
	docCommands(&b, app)
	docUnattended(&b)
	docExitCodes(&b)
	docOutput(&b)
	docJSON(&b)
	docEnvironment(&b)
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func docCommands(b *bytes.Buffer, app *cli.App) {
	b.WriteString("## Commands\n\n")
	for _, c := range app.Commands {
		if c.Hidden {
			continue
		}
		fmt.Fprintf(b, "### %s\n\n%s.\n\n```\n%s\n```\n\n", c.Name, upperFirst(c.Usage), c.UsageText)
		if c.Description != "" {
			fmt.Fprintf(b, "%s\n\n", strings.ReplaceAll(c.Description, "\n", "  \n"))
		}
		if len(c.Flags) == 0 {
			continue
		}
		b.WriteString("| flag | |\n|---|---|\n")
		for _, f := range c.Flags {
			fmt.Fprintf(b, "| `%s` | %s |\n", cell(flagSyntax(f)), cell(flagText(f)))
		}
		b.WriteString("\n")
		if c.Name == cmdSubmit {
			b.WriteString("Keys of a line of `--from-file`:\n\n| key | |\n|---|---|\n")
			for _, k := range lineKeyDocs {
				fmt.Fprintf(b, "| `%s` | %s |\n", k.key, cell(k.text))
			}
			b.WriteString("\n")
		}
	}
}

func docUnattended(b *bytes.Buffer) {
	b.WriteString("## Without a daemon\n\n" +
		"Most commands need none. Where none runs they open the queue themselves:\n\n" +
		"| | |\n|---|---|\n" +
		"| `ps`, `show`, `why`, `result`, `logs`, `status`, `queue stats` | read it, and change nothing on disk; `status` ends with 4 |\n" +
		"| `submit`, `cancel`, `retry`, `pause`, `resume` | have it for the one call. What they answer is on disk; it is carried out once a daemon or `dspy-agent drain` runs, which `submit` says on the standard error |\n" +
		"| `wait`, `logs --follow` | tell of tasks that have ended; for others they end with 4 |\n" +
		"| `submit --wait`, `submit --follow`, `ps --watch` | end with 4, before anything is submitted |\n\n" +
		"`submit` makes a queue only where `--workspace` or `ENV_QUEUE_DIR` says in which folder. Commands that come at the same\n" +
		"moment take turns, and a daemon that starts meanwhile waits for them; one that finds a daemon by then calls it. Who keeps the\n" +
		"queue for more than two seconds (a command: thirty) is named, and the code is 4. With `ORCHESTRATOR_GRPC_ADDR` set that address is meant, and\n" +
		"nothing else, by all commands (`stop` and `doctor` too; a note says when it is the daemon of another workspace), unless\n" +
		"`--workspace` is given. `start` and `drain` are about the folder in any case.\n\n")
}

func docExitCodes(b *bytes.Buffer) {
	b.WriteString("## Exit codes\n\n| code | |\n|---|---|\n")
	for _, e := range exitTable {
		fmt.Fprintf(b, "| %d | %s |\n", e.code, cell(e.text))
	}
	b.WriteString("\n`wait` and `submit --wait` end with the task's own code; `wait` for several with that of the first, in the order\n" +
		"given, that did not succeed. `cancel` and `retry` of several go on after a failure and end with the highest code.\n" +
		"A daemon that goes away while a command follows or waits is waited for, 30 seconds; then the code is 4. A submission\n" +
		"whose answer is lost with it is sent once more under the same id.\n\n| code | |\n|---|---|\n")
	for _, e := range taskExitTable {
		fmt.Fprintf(b, "| %s | %s |\n", e.code, cell(e.text))
	}
	b.WriteString("\n")
}

func docOutput(b *bytes.Buffer) {
	b.WriteString(`## Output

On a terminal, listings have columns, colours and times such as "3 minutes ago", and are as wide as the terminal. In a
pipe, listings have columns separated by tabs, times in RFC 3339 and UTC, durations in seconds, and nothing is cut off or
left out; other commands print times there as for people, unless they are asked for --json.
Control characters in what the daemon tells (names, reasons, arguments) are printed as ?; with --json they are escaped.
NO_COLOR and TERM=dumb turn colours off, CLICOLOR_FORCE=1 turns them on in a pipe.

| command | what it prints in a pipe |
|---|---|
| submit | the id |
| submit --follow | what the task wrote, byte by byte; with --json that goes to the standard error, and the task to stdout |
| submit --from-file | an id per line, of all that are in the queue then; the summary goes to the standard error |
| ps | a header, then a task per line: id, name, class, state, attempt, time submitted, seconds run, detail |
| ps --watch | a change per line: time, id, state, event, error |
| wait, submit --wait | a task per line: id, state, exit code, why |
| cancel, retry | a task per line: id and what became of it; the summary goes to the standard error |
| why | a sentence; then an empty line, and facts |
| doctor | a finding per line: status, name, text, mend |
| config show | a header, then a setting per line: key, value, where from |
| config check | a mistake per line: file, line, what is wrong |
| logs | what the task wrote, byte by byte |
| services | a header, then a service per line: name, status, time started, ports, percent of a CPU, bytes of memory, detail |
| services up | a line per change that settles: name, status, message |
| services pull | a line per image that has come or failed: image, what became of it, message |
| services logs | a line per line; of several services behind the name and a bar |

`)
}

func docJSON(b *bytes.Buffer) {
	b.WriteString("## JSON\n\nWith `--json`, `ps`, `services` and `doctor` print one array; `wait`, `cancel`, `retry` and `ps --watch` one object per line, as it\n" +
		"happens; the others one object. Times are RFC 3339 in UTC with milliseconds; durations are seconds. A name that does not\n" +
		"apply is left out. Names are added, never changed. An error is text on the standard error\n" +
		"with --json, too, and the exit code tells its kind; stdout has then what was found until there, or nothing.\n\n")
	for _, d := range jsonDocs {
		fmt.Fprintf(b, "### %s\n\n| name | |\n|---|---|\n", d.name)
		typ := reflect.TypeOf(d.of)
		for f := range typ.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			fmt.Fprintf(b, "| `%s` | %s |\n", name, cell(f.Tag.Get("doc")))
		}
		b.WriteString("\n")
	}
}

func docEnvironment(b *bytes.Buffer) {
	b.WriteString("## The environment of a task\n\nTasks are stored on disk, and the environment of a shell holds secrets. So a task gets these variables of the shell\n" +
		"that submits it, as far as they are set, and what `--env` adds:\n\n| | |\n|---|---|\n")
	for _, g := range environmentTaken {
		fmt.Fprintf(b, "| %s | `%s` |\n", g.about, strings.Join(g.names, "` `"))
	}
	b.WriteString("\n`--env NAME=VALUE` sets a variable, `--env NAME` takes one more along. Left out on purpose are XDG_RUNTIME_DIR,\n" +
		"SSH_AUTH_SOCK, DISPLAY and the like, which belong to a login that may be over when the task starts, and TERM, since\n" +
		"there is no terminal.\n\n## The environment of dspy-agent\n\n| variable | |\n|---|---|\n" +
		"| `DSPY_AGENT_CONFIG` | the configuration file (default: ~/.dspy-agent/config.toml) |\n" +
		"| `ORCHESTRATOR_GRPC_ADDR` | address of the daemon, instead of the workspace's socket; --workspace wins over it |\n" +
		"| `ENV_QUEUE_DIR` | folder of the queue (default: logs/env_queue in the workspace) |\n" +
		"| `XDG_RUNTIME_DIR` | where the socket is (else /tmp/dspy-agent-UID) |\n" +
		"| `DSPY_AGENT_SERVICE_TIMEOUT` | how many seconds start waits for the daemon (default: 60) |\n\n" +
		"[configuration.md](configuration.md) has every setting, with the variable that sets it.\n")
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
