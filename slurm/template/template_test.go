package template

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// field is a script as people have it.
const field = `#!/bin/bash
#SBATCH --job-name=train-${TASK_ID}
#SBATCH --output=${LOG_DIR:-${HOME}/logs}/%x-%j.out
#SBATCH -N ${NODES:-1} --gres=gpu:${GPUS:-1}   # all on one
#SBATCH --mem=${MEMORY_GB:-48}G
#SBATCH --time=${TIME_LIMIT:-04:00:00}

# a comment, and then
set -e
#SBATCH --array=1-100
python -m "$MODULE_NAME" --method "${TRAINING_METHOD:-sft}" --steps ${RL_STEPS:-1000} --out "$HOME/$TASK_ID" "${PATH}"
`

func options(j Job) string {
	var words []string
	for _, o := range j.Options {
		words = append(words, o.String())
	}
	return strings.Join(words, " ")
}

func mustParse(t testing.TB, path, text string) *Template {
	t.Helper()
	p, err := Parse("t", path, text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFieldScript(t *testing.T) {
	t.Parallel()
	tpl := mustParse(t, "t.sh", field)
	s := &task.Spec{ID: "sweep/lr=0.1", Class: "gpu_slurm", Resources: task.Resources{GPUs: 2, MemBytes: 3<<30 + 1}, Payload: json.RawMessage(
		`{"nodes":4,"module_name":"a b; rm -rf /","training_method":"grpo","rl_steps":"007","path":"/evil","home":"/evil","task_id":"mine","list":[1]}`)}
	j, err := tpl.Render(s, Site{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := options(j), "--nodes=4 --gres=gpu:2 --mem=4G --time=04:00:00"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	slices.Sort(j.Env)
	want := []string{"GPUS=2", "MEMORY_GB=4", "MODULE_NAME=a b; rm -rf /", "NODES=4", "RL_STEPS=007", "TASK_ID=sweep/lr=0.1", "TRAINING_METHOD=grpo"}
	if !slices.Equal(j.Env, want) {
		t.Errorf("%q", j.Env)
	}
	if j.Body != field || !slices.Equal(j.Interpreter, []string{"/bin/bash"}) {
		t.Errorf("%q %q", j.Interpreter, j.Body)
	}
	if len(j.Unused) != 3 || !strings.Contains(j.Unused[2], "line 10 stands behind the first command") {
		t.Errorf("%q", j.Unused)
	}
	s.Payload = nil
	if j, err = tpl.Render(s, Site{}); err != nil || !strings.Contains(options(j), "--nodes=1") {
		t.Errorf("%s, %v", options(j), err)
	}
}

func TestGoTemplate(t *testing.T) {
	t.Parallel()
	tpl := mustParse(t, "t.tmpl", `#!/bin/bash -l
{{if .Partition}}#SBATCH --partition={{.Partition}}-{{.Class}}{{end}}
#SBATCH --nodes=${NODES:-1} --cpus-per-task={{if .GPUs}}{{.GPUs}}0{{else}}4{{end}} --time={{.Minutes}}
#SBATCH --chdir=runs/${NAME:-x}
exec "$@"
`)
	s := &task.Spec{ID: "t", Class: "far", Resources: task.Resources{GPUs: 2}, Dir: "/w", Payload: json.RawMessage(`{"name":"{{.Class}} $(id)"}`)}
	j, err := tpl.Render(s, Site{Partition: "gpu", Walltime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := options(j), "--partition=gpu-far --nodes=1 --cpus-per-task=20 --time=60"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := j.In("/w"); got != "/w/runs/{{.Class}} $(id)" || !slices.Equal(j.Interpreter, []string{"/bin/bash", "-l"}) {
		t.Errorf("%q %q", got, j.Interpreter)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for text, words := range map[string]string{
		"#SBATCH --array=1-3":                        "--array would make something of the job",
		"#SBATCH --clusters=all":                     "--clusters would",
		"#SBATCH --nodes=${NODES}":                   `line 2: it needs a value for NODES: add "nodes" to the payload`,
		"#SBATCH --nodes=${EVIL:-1}":                 "has ' ' in it",
		"#SBATCH --nodes=$NODES":                     "has '$' in it",
		"#SBATCH --nodes=${NODES:?gone}":             "are all that is filled in",
		"#SBATCH ${EXTRA}":                           "no option",
		"#SBATCH hetjob":                             "no option",
		"#SBATCH --gres=gpu:${LONG:-1}":              "longer than 256",
		"echo $LONG\x00":                             "no text",
		"echo ${HUGE}":                               `"huge" in the payload is 70000 bytes long`,
		"echo ${NUL}":                                "NUL character",
		"echo a\r\n":                                 "Windows",
		"#SBATCH --comment=x --dependency=singleton": "--dependency would",
	} {
		payload, _ := json.Marshal(map[string]any{"evil": "1 --array=1-100", "long": strings.Repeat("a", 300), "huge": strings.Repeat("a", 70000), "nul": "\x00"})
		tpl, err := Parse("t", "t.sh", "#!/bin/bash\n"+text+"\n")
		if err == nil {
			_, err = tpl.Render(&task.Spec{ID: "t", Payload: payload}, Site{})
			if task.CodeOf(err) != task.CodeInvalid {
				t.Errorf("%q: the code is %s", text, task.CodeOf(err))
			}
		}
		if err == nil || !strings.Contains(fmt.Sprint(err), words) {
			t.Errorf("%q: %v, want %q", text, err, words)
		}
	}
	for path, text := range map[string]string{"t.sh": "echo hello\n", "u.sh": "", "t.tmpl": "{{.X", "u.tmpl": "#!/bin/sh\n{{.Payload}}", "v.tmpl": "#!/bin/sh\n{{range 100000}}0123456789{{end}}"} {
		tpl, err := Parse("t", path, text)
		if err == nil {
			_, err = tpl.Render(&task.Spec{}, Site{})
		}
		if err == nil {
			t.Errorf("%s: %q was taken", path, text)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"gpu_slurm.sbatch", "grpo.sh", "one.tmpl", "twice.sh", "twice.slurm", "README.md", "plain"} {
		put(name, "#!/bin/sh\n# "+name+"\n", 0o640)
	}
	put("open.sh", "#!/bin/sh\n", 0o666)
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	f := Open(dir)
	for _, c := range []struct{ payload, class, want string }{
		{`{}`, "gpu_slurm", "gpu_slurm"}, {``, "gpu_slurm", "gpu_slurm"}, {``, "cpu_long", ""},
		{`{"method":"grpo"}`, "gpu_slurm", "grpo"}, {`{"method":"dpo"}`, "gpu_slurm", "gpu_slurm"}, {`{"method":{"a":1}}`, "cpu_long", ""},
		{`{"method":"../../etc/passwd"}`, "cpu_long", ""}, {`{"template":null}`, "cpu_long", ""}, {`{"Template":"plain","METHOD":"grpo"}`, "cpu_long", ""}, {`{"template":"plain"}`, "cpu_long", "plain"},
		{`{"template":"one","method":"grpo"}`, "gpu_slurm", "one"}, {`{"template":"grpo.sh"}`, "cpu_long", "grpo"},
	} {
		got, err := f.Choose(json.RawMessage(c.payload), c.class)
		if err != nil || c.want == "" && got != nil || c.want != "" && (got == nil || got.Name != c.want) {
			t.Errorf("%s in %s: %v, %v; want %q", c.payload, c.class, got, err, c.want)
		}
	}
	for payload, words := range map[string]string{
		`{"template":"none"}`: `is "none", which is not in ` + dir + "; there are gpu_slurm, grpo, one, open, plain, twice",
		`{"template":"../x"}`: "no path", `{"template":"/etc/passwd"}`: "no path", `{"template":""}`: "no path", `{"template":3}`: "no path",
		`{"template":"twice"}`: "leave one", `{"template":"open"}`: "chmod o-w", `{"template":"folder"}`: "not in", `[]`: "no JSON object",
	} {
		if got, err := f.Choose(json.RawMessage(payload), "c"); task.CodeOf(err) != task.CodeInvalid || !strings.Contains(fmt.Sprint(err), words) {
			t.Errorf("%s: %v, %v; want %q", payload, got, err, words)
		}
	}
	if _, err := Open("").Choose(json.RawMessage(`{"template":"one"}`), "c"); err == nil || !strings.Contains(fmt.Sprint(err), "[slurm]") {
		t.Error(err)
	}
	if got, err := Open("").Choose(nil, "gpu_slurm"); got != nil || err != nil {
		t.Error(got, err)
	}
	// What was changed is read again.
	put("plain", "#!/bin/dash\n# another\n", 0o600)
	if got, err := f.Choose(json.RawMessage(`{"template":"plain"}`), "c"); err != nil || got.script.interpreter()[0] != "/bin/dash" {
		t.Error(got, err)
	}
}

// TestWhatMayPass: only what stays as it is is a verdict. A file that cannot be read now, or
// a folder that is not there or empty, is none about the template or the task.
func TestWhatMayPass(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := Open(filepath.Join(dir, "templates"))
	named, classed := json.RawMessage(`{"template":"one"}`), json.RawMessage(`{"method":"one"}`)
	want := func(code task.Code, words string) {
		t.Helper()
		for _, payload := range []json.RawMessage{named, classed} {
			got, err := f.Choose(payload, "c")
			if task.CodeOf(err) != code || !strings.Contains(fmt.Sprint(err), words) {
				t.Errorf("%s: %v, %s %v; want %s, %q", payload, got, task.CodeOf(err), err, code, words)
			}
		}
	}
	want(task.CodeUnavailable, f.dir+", is not there")
	if err := os.Mkdir(f.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	want(task.CodeUnavailable, f.dir+", is empty")
	path := filepath.Join(f.dir, "one.sh")
	if err := os.Symlink(path, path); err != nil { // every opening of it fails
		t.Fatal(err)
	}
	want(task.CodeUnavailable, "template one cannot be read now")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("no script"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(task.CodeInvalid, "its first line")
}

// TestWhoMayWriteIt: nobody but us and root, neither the file nor another in its place.
func TestWhoMayWriteIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "one.sh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o644); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode  os.FileMode // of the folder
		words string
	}{
		{0o755, ""}, {0o777, "chmod o-w " + dir}, {0o777 | os.ModeSticky, ""}, {0o770, ""},
	} {
		if err := os.Chmod(dir, c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := Open(dir).Choose(nil, "one")
		if c.words == "" && (err != nil || got == nil) || c.words != "" && (task.CodeOf(err) != task.CodeInvalid || !strings.Contains(fmt.Sprint(err), c.words)) {
			t.Errorf("%s: %v, %v; want %q", c.mode, got, err, c.words)
		}
	}
	f := Open(dir)
	if os.Getuid() == 0 {
		if err := os.Chown(path, 4711, -1); err != nil {
			t.Fatal(err)
		}
	} else {
		f.uid++ // as if we were another
	}
	if got, err := f.Choose(nil, "one"); task.CodeOf(err) != task.CodeInvalid || !strings.Contains(fmt.Sprint(err), "another user's") {
		t.Errorf("%v, %v", got, err)
	}
}

// TestGraceIsANumber: scripts reckon with it, and bash runs what stands in a text that it
// reckons with.
func TestGraceIsANumber(t *testing.T) {
	t.Parallel()
	tpl := mustParse(t, "t.sh", "#!/bin/bash\n: $((TASK_GRACE - 2)) $TASK_GRACE\n")
	for grace, want := range map[time.Duration]string{0: "TASK_GRACE=10", 90*time.Second + 1: "TASK_GRACE=91"} {
		j, err := tpl.Render(&task.Spec{ID: "t", Grace: grace, Payload: json.RawMessage(`{"task_grace":"a[$(id)]"}`)}, Site{})
		if err != nil || !slices.Equal(j.Env, []string{want}) {
			t.Errorf("%q, %v; want %s", j.Env, err, want)
		}
	}
}
