package doctor

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/doctor.md anew")

const docsHead = `# What doctor looks at

This file is rendered from the table of checks by ` + "`go test ./internal/doctor -run TestDocs -update`" + `.

` + "`dspy-agent doctor`" + ` looks for what stands in the way, or soon will, and says for each finding what to do. It changes
nothing; for a moment it has a file of its own in the folders of the queue and the log. It ends with 1 if there is a
problem, else with 0.

| status | |
|---|---|
| ` + "`ok`" + ` | as it should be |
| ` + "`note`" + ` | nothing to do, but good to know |
| ` + "`warning`" + ` | works, and may not for long, or not as expected |
| ` + "`problem`" + ` | does not work |

In a pipe each finding is a line: status, name, text and mend, separated by tabs. With ` + "`--json`" + ` it is one array of objects
with these names. Names of checks and statuses are stable; texts are for people.

All checks are made at once, in a process of their own. One that has not ended within LIMIT, because a file server or
the daemon hangs, is a problem with its name, and the others are told all the same.

| name | looks at | problem | warning | note |
|---|---|---|---|---|
`

func renderDocs() string {
	var b strings.Builder
	b.WriteString(strings.ReplaceAll(docsHead, "LIMIT", strings.Replace(Limit.String(), "s", " seconds", 1)))
	for _, c := range Checks() {
		b.WriteString("| `" + c.Name + "` | " + strings.Join([]string{c.About, c.Problem, c.Warning, c.Note}, " | ") + " |\n")
	}
	return b.String()
}

// TestDocs renders docs/doctor.md and fails when the file says something else.
func TestDocs(t *testing.T) {
	const path = "../../docs/doctor.md"
	want := renderDocs()
	if *update {
		must(t, os.WriteFile(path, []byte(want), 0o644)) //nolint:gosec // documentation
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s is out of date (%v); make it with: go test ./internal/doctor -run TestDocs -update", path, err)
	}
}
