package template

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// hostile is text that shells, sbatch or Go's templates would take for something else.
func hostile() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{
			"'", `"`, "$(touch /tmp/x)", "`id`", "\n#SBATCH --uid=0\n", "\\", "%", "a\nexit 0\n", "--", "-n", "${IFS}", "\r", "\x00", "\x01", "é", "* ?", "#", ";", "&&", "", " ",
			"1 --array=1-100", "1\t--wrap=id", "${NODES}", "${NODES:-${GPUS}}", "}", "${", "{{.}}", "{{", "1,2", "gpu:h100:2", "04:00:00", "4", "=", "--gres=gpu:8",
		}),
		rapid.StringN(0, 30, 60),
		rapid.StringMatching(`[ -~]{0,40}`),
	)
}

// rounds is how often a property is tried.
func rounds(few, many int) int {
	if os.Getenv("DSPY_TEST_FULL") != "" {
		return many
	}
	return few
}

// goField is a Go template with every kind of use of a value.
const goField = `#!/bin/bash
#SBATCH --nodes=${NODES:-1} -c {{if .CPUs}}{{.CPUs}}{{else}}8{{end}}
#SBATCH --gres=gpu:${GPUS:-1} --constraint="${NAME:-a}"
{{if .Command}}srun "$@"{{else}}echo ${NAME} $MODULE_NAME{{end}} ${PATH} ${LD_PRELOAD:-} "${BASH_ENV}" ${SLURM_JOB_ID}
`

// TestNothingOfAPayloadIsCode: whatever a payload and an id have in them, the commands are
// the owner's, the options are those of the template, and their values of the alphabet.
func TestNothingOfAPayloadIsCode(t *testing.T) {
	t.Parallel()
	keys := []string{"nodes", "gpus", "name", "module_name", "training_method", "rl_steps", "memory_gb", "time_limit", "log_dir", "path", "ld_preload", "bash_env", "slurm_job_id", "home", "task_id", "NODES", "{{.}}"}
	for kind, text := range map[string]string{"t.sh": field, "t.tmpl": goField} {
		tpl := mustParse(t, kind, text)
		plain, err := tpl.Render(&task.Spec{ID: "t", Class: "c"}, Site{})
		if err != nil {
			t.Fatal(err)
		}
		names := func(j Job) (out []string) {
			for _, o := range j.Options {
				out = append(out, o.Name)
			}
			return out
		}
		refused := 0
		check := func(t *rapid.T) {
			payload := rapid.MapOfN(rapid.OneOf(rapid.SampledFrom(keys), hostile()), hostile(), 0, 8).Draw(t, "payload")
			raw, err := json.Marshal(payload)
			if err != nil {
				t.Fatal(err)
			}
			s := &task.Spec{ID: hostile().Draw(t, "id"), Class: hostile().Draw(t, "class"), Payload: raw}
			j, err := tpl.Render(s, Site{})
			if err != nil {
				refused++
				if task.CodeOf(err) != task.CodeInvalid {
					t.Fatal(err)
				}
				return
			}
			if j.Body != plain.Body || !slices.Equal(j.Interpreter, plain.Interpreter) || !slices.Equal(names(j), names(plain)) {
				t.Fatalf("%+v", j)
			}
			for _, o := range j.Options {
				if err := o.Check(); err != nil || strings.ContainsAny(o.String(), " \t\r\n'\"\\#$`~{}<>\x00") {
					t.Fatalf("%s: %v", o, err)
				}
			}
			for _, kv := range j.Env {
				name, _, _ := strings.Cut(kv, "=")
				if !strings.Contains(text, name) || slices.Contains([]string{"PATH", "LD_PRELOAD", "BASH_ENV", "SLURM_JOB_ID", "HOME"}, name) {
					t.Fatalf("%q", j.Env)
				}
			}
		}
		all := rounds(400, 500_000)
		n := 0
		for n < all {
			rapid.Check(t, check)
			n += 100 // rapid's own number of a round
		}
		if refused == 0 || refused > n*9/10 {
			t.Errorf("%s: %d of %d were refused: the values say little", kind, refused, n)
		}
	}
}

// FuzzTemplate: any script, and any value in it.
func FuzzTemplate(f *testing.F) {
	f.Add(field, "4", "x")
	f.Add("#!/bin/sh\n#SBATCH -N${NODES}\n", "1 --array=2", "{{.}}")
	f.Add("#!/bin/sh\n#SBATCH --comment=${NODES:-${NAME:-}}} \"a b\" -Hk -J x\necho\n#SBATCH\n", "\n#SBATCH", "")
	f.Fuzz(func(t *testing.T, text, a, b string) {
		tpl, err := Parse("t", "t.sh", text)
		if err != nil {
			return
		}
		payload, err := json.Marshal(map[string]string{"nodes": a, "name": b})
		if err != nil {
			t.Fatal(err)
		}
		j, err := tpl.Render(&task.Spec{ID: b, Payload: payload}, Site{})
		if err != nil {
			return
		}
		if j.Body != text {
			t.Fatalf("%q", j.Body)
		}
		for _, o := range j.Options {
			if err := o.Check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
