package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSubmitFile(t *testing.T) {
	f, env := startFake(t)
	path := filepath.Join(env.Cwd, "tasks.jsonl")
	var lines []string
	for i := range 1203 {
		lines = append(lines, fmt.Sprintf(`{"argv": ["true", "%d"], "timeout": "10m", "env": {"SEED": "%d"}}`, i, i))
	}
	lines[0] = `{"id": "first", "command": "exit 3", "after": ["x:any"], "priority": 3}`
	lines[1], lines[3] = "", lines[2] // a blank line; and two lines with the same text
	write := func() {
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	f.refuse["first"] = "id first is taken by another task"
	out := expect(t, env, exitRefused, "line-", "1,201 accepted, 0 already there, 1 refused\n  line 1: id first is taken", "submit", "--from-file", "tasks.jsonl")
	if n := strings.Count(out, "\n"); n != 1201 {
		t.Errorf("%d ids", n)
	}
	if !slices.Equal(f.batches, []int{500, 500, 202}) {
		t.Errorf("sent in chunks of %v", f.batches)
	}
	delete(f.refuse, "first")
	expect(t, env, exitDone, "first", "1 accepted, 1,201 already there, 0 refused", "submit", "--from-file", path)
	spec := f.find("first").GetSpec()
	if got := fmt.Sprintf("%q %s", spec.GetArgv(), spec.GetAfter()[0].GetWhen()); got != `["/bin/sh" "-c" "exit 3"] any` {
		t.Errorf("first is %s", got)
	}
	if s := f.tasks[0].GetSpec(); !slices.Contains(s.GetEnv(), "SEED=2") || !slices.Contains(s.GetAmbientEnv(), "HOME=/home/ada") {
		t.Errorf("env is %q, taken along is %q", s.GetEnv(), s.GetAmbientEnv())
	}

	// A slip anywhere, and nothing is submitted.
	before := len(f.tasks)
	for line, want := range map[string]string{
		`{"argv": ["x"], "prority": 1}`:                     `line 1100: unknown key "prority"; did you mean "priority"?`,
		`{"argv": "x"}`:                                     "line 1100: argv: must be an array of strings",
		`{"argv": ["x"`:                                     "line 1100: is not JSON",
		`["x"]`:                                             "line 1100: is not a JSON object",
		`{"name": "x"}`:                                     "line 1100: says nothing to run",
		`{"id": "first", "argv": ["x"]}`:                    "line 1100: id first is that of line 1 already",
		`{"argv": ["x"], "workdir": "/no"}`:                 "line 1100: the task cannot run in /no",
		`{"argv": ["x"], "id": "a b"}`:                      "line 1100: id \"a b\"",
		`{"argv": ["x"], "retries": 1.5}`:                   "line 1100: retries: 1.5 is not a whole number",
		`{"argv": ["x"], "env": {"A": 1}}`:                  "line 1100: env: must be an object of strings",
		`{"argv": ["x"], "env": {"A B": ""}}`:               `line 1100: env: "A B" is no name of a variable`,
		`{"argv": ["x"], "mounts": ["/a"]}`:                 "line 1100: mounts: they need an image",
		`{"argv": ["x"], "image": "x", "mounts": ["/a:b"]}`: `line 1100: mounts: "/a:b" is not HOST`,
		`{"argv": ["x"], "after": ["a/../"]}`:               "line 1100: after: id",
	} {
		lines[1099] = line
		write()
		expect(t, env, exitUsage, "", want, "submit", "--from-file", path)
	}
	// Slips in many lines are told at once, up to a number of them.
	for i := range 12 {
		lines[i] = fmt.Sprintf(`{"argv": ["x"], "prority": %d}`, i)
	}
	lines[1099] = `{"argv": ["x"], "id": "last"}`
	write()
	expect(t, env, exitUsage, "", "12 lines of the file are no tasks; nothing was submitted\n  line 1: unknown key", "submit", "--from-file", path)
	expect(t, env, exitUsage, "", "  ... and 2 more lines\n", "submit", "--from-file", path)
	if len(f.tasks) != before {
		t.Errorf("%d tasks were submitted", len(f.tasks)-before)
	}
}

func TestSubmitFileFromAPipe(t *testing.T) {
	f, env := startFake(t)
	const lines = `{"argv": ["true"]}` + "\n" + `{"argv": ["false"]}` + "\n"
	for _, want := range []string{"2 accepted, 0 already there", "0 accepted, 2 already there"} {
		env.Stdin = strings.NewReader(lines)
		expect(t, env, exitDone, `"refused":[]`, want, "submit", "--from-file", "-", "--json")
	}
	if len(f.tasks) != 2 {
		t.Errorf("%d tasks", len(f.tasks))
	}
}
