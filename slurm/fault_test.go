package slurm

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/slurm/template"
)

// TestFaultNamesWhatIsMissing: of a job by a template it is the interpreter and the folder
// that the template names, and not the task's own words.
func TestFaultNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	parse := func(text string) *template.Template {
		t.Helper()
		tpl, err := template.Parse("train", "/t/train.sh", text)
		if err != nil {
			t.Fatal(err)
		}
		return tpl
	}
	for about, c := range map[string]struct {
		from *template.Template
		spec task.Spec
		want string
	}{
		"interpreter": {parse("#!/opt/py/bin/python3 -u\n"), task.Spec{Argv: []string{"train.py"}, Dir: "/"}, "command not found on n1: /opt/py/bin/python3, which the first line of its template names"},
		"--chdir":     {parse("#!/bin/sh\n#SBATCH --chdir=/gone\n"), task.Spec{Argv: []string{"train.py"}, Dir: "/"}, "its folder /gone is not there on n1"},
		"command":     {nil, task.Spec{Argv: []string{"no-such-program", "x"}, Dir: "/"}, "command not found on n1: no-such-program"},
		"folder":      {nil, task.Spec{Argv: []string{"true"}, Dir: "/not/there"}, "its folder /not/there is not there on n1"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			r := newRounds(t, &scripted{})
			c.spec.ID = "t"
			j := r.newJob(task.New(1, &c.spec, 0))
			p, err := planOf(&c.spec, j.ref, Site{}, c.from)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := j.dir.write(p, r.news.path); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "bash", j.dir.path(scriptFile))
			cmd.Env = append(cmd.Environ(), "SLURM_JOB_ID=5", "SLURMD_NODENAME=n1")
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Errorf("it began\n%s", out)
			}
			if j.record, _, err = j.dir.record(); err != nil {
				t.Fatal(err)
			}
			if got := j.faultText(); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if err := os.Remove(j.dir.path(cwdFile)); err != nil {
				t.Fatal(err)
			}
			if got := j.faultText(); about == "--chdir" && strings.Contains(got, "folder /") {
				t.Errorf("%q names a folder that nobody knows", got)
			}
		})
	}
}
