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

// TestSubmitFileFromAPipe: what comes through a pipe is new tasks each time, unless the
// lines have ids; both passes over it know the same ones.
func TestSubmitFileFromAPipe(t *testing.T) {
	f, env := startFake(t)
	const lines = `{"argv": ["true"]}` + "\n" + `{"argv": ["false"]}` + "\n" + `{"id": "x", "argv": ["true"]}` + "\n"
	for _, want := range []string{"3 accepted, 0 already there", "2 accepted, 1 already there"} {
		env.Stdin = strings.NewReader(lines)
		expect(t, env, exitDone, `"refused":[]`, want, "submit", "--from-file", "-", "--json")
	}
	if len(f.tasks) != 5 {
		t.Errorf("%d tasks", len(f.tasks))
	}
}

// submitLines submits a file with these lines.
func submitLines(t *testing.T, env Env, code int, stderr string, lines []string, flags ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(env.Cwd, "tasks.jsonl"), []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	gotCode, _, errs := dspyAgent(t, env, append([]string{"submit", "--from-file", "tasks.jsonl"}, flags...)...)
	if gotCode != code || !strings.Contains(errs, stderr) {
		t.Errorf("%q\n got  exit %d, %q\n want exit %d, %q", lines, gotCode, errs, code, stderr)
	}
}

// TestSubmitFileInAnyOrder: a line may wait for a later one; lines that wait for each other
// are refused before anything is submitted.
func TestSubmitFileInAnyOrder(t *testing.T) {
	f, env := startFake(t)
	submitLines(t, env, exitDone, "5 accepted", []string{
		`{"id": "last", "argv": ["true"], "after": ["a", "b:any", "old"]}`, "",
		`{"id": "first", "argv": ["true"]}`,
		`{"id": "b", "argv": ["true"], "after": ["a"]}`,
		`{"id": "a", "argv": ["true"]}`,
		`{"id": "x", "argv": ["true"]}`,
	})
	var ids []string
	for _, info := range f.tasks {
		ids = append(ids, info.GetId())
	}
	if got := strings.Join(ids, " "); got != "a b last first x" {
		t.Errorf("submitted as %s", got)
	}
	submitLines(t, env, exitUsage, "in a circle, so that none could start: line 2 waits for p, line 4 waits for q, line 3 waits for r; nothing was submitted", []string{
		`{"id": "o", "argv": ["true"], "after": ["r"]}`,
		`{"id": "r", "argv": ["true"], "after": ["p"]}`,
		`{"id": "q", "argv": ["true"], "after": ["r"]}`,
		`{"id": "p", "argv": ["true"], "after": ["q"]}`,
	})
	// A chain that is as long as the file, from its end to its beginning.
	var chain []string
	for i := range 5000 {
		chain = append(chain, fmt.Sprintf(`{"id": "c%d", "argv": ["true"], "after": ["c%d"]}`, i, i+1))
	}
	submitLines(t, env, exitDone, "5,001 accepted", append(chain, `{"id": "c5000", "argv": ["true"]}`))
	if n := len(f.tasks); n != 5006 || f.tasks[5].GetId() != "c5000" || f.tasks[n-1].GetId() != "c0" {
		t.Errorf("%d tasks, from %s to %s", n, f.tasks[5].GetId(), f.tasks[n-1].GetId())
	}
}

// TestFlagsBesideAFile: they hold for the lines that do not say otherwise.
func TestFlagsBesideAFile(t *testing.T) {
	f, env := startFake(t)
	flags := []string{
		"--class", "cpu_long", "--priority", "4", "--timeout", "10m", "--retries", "2", "--env", "A=1", "--env", "B=2", "--workdir", "/",
		"--cpus", "2", "--mem", "1GiB", "--gpu-mem", "20GiB", "--on-lost", "retry", "--after", "x:any", "--payload", `{"p":1}`, "--name", "n",
	}
	lines := []string{
		`{"id": "plain", "argv": ["true"]}`,
		`{"id": "own", "argv": ["true"], "class": "cpu_short", "priority": 0, "timeout": 1, "retries": 0, "env": {"B": "3"}, "workdir": "/usr",
		"cpus": "0.5", "mem": "2GiB", "gpus": 2, "on_lost": "fail", "after": [], "payload": {}, "name": "own"}`,
	}
	lines[1] = strings.ReplaceAll(lines[1], "\n", " ")
	submitLines(t, env, exitDone, "2 accepted", lines, flags...)
	for id, want := range map[string]string{
		"plain": `n cpu_long 4 600000 2 ["A=1" "B=2"] / 2000 1073741824 0 21474836480 retry 1 {"p":1}`,
		"own":   `own cpu_short 0 1000 0 ["A=1" "B=3"] /usr 500 2147483648 2 0 fail 0 {}`,
	} {
		info := f.find(id)
		p, r := info.GetSpec(), info.GetSpec().GetResources()
		got := fmt.Sprintf("%s %s %d %d %d %q %s %d %d %d %d %s %d %s", info.GetName(), info.GetClass(), info.GetPriority(), p.GetTimeoutMs(), p.GetRetries(),
			p.GetEnv(), p.GetDir(), r.GetCpuMillicores(), r.GetMemBytes(), r.GetGpus(), r.GetGpuMemBytes(), p.GetOnLost(), len(p.GetAfter()), p.GetPayloadJson())
		if got != want {
			t.Errorf("%s is\n %s, want\n %s", id, got, want)
		}
	}
	// The same lines with other flags are other tasks.
	for i, seed := range []string{"A=1", "A=2", "A=1"} {
		submitLines(t, env, exitDone, []string{"1 accepted", "1 accepted", "1 already there"}[i], []string{`{"argv": ["true"]}`}, "--env", seed)
	}
}

// TestLineFlags: each flag of submit is a key of a line, or it is said why not.
func TestLineFlags(t *testing.T) {
	keys := map[string]bool{"argv": true, "command": true} // what follows -- on a command line
	for _, f := range submitFlags() {
		i := slices.IndexFunc(lineFlags, func(l lineFlag) bool { return l.name == f.Names()[0] })
		if i < 0 {
			t.Errorf("--%s is no key of a line, and nothing says why", f.Names()[0])
			continue
		}
		l := lineFlags[i]
		if l.key == "" && l.why == "" || l.fill == nil && l.why == "" || l.key != "" && lineKeys[l.key] == nil {
			t.Errorf("--%s: key %q, %q", l.name, l.key, l.why)
		}
		keys[l.key] = true
		// Who writes the flag's name into a line is told the key.
		if msg := unknownKey(l.name).Error(); l.key != "" && l.key != l.name && !strings.Contains(msg, fmt.Sprintf("did you mean %q?", l.key)) {
			t.Errorf("%s as a key: %s", l.name, msg)
		}
	}
	_, help, _ := dspyAgent(t, testEnv(t), "help", "submit")
	for key := range lineKeys {
		if !keys[key] || !strings.Contains(help, "\n   "+key+" ") {
			t.Errorf("%s is a key and no flag, or help submit does not list it", key)
		}
	}
}
