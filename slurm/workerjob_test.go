package slurm

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestWorkerJobAsksOnce: what directives say takes the place of what [workers] says about the
// same, as in the jobs of tasks. But for the warning that the worker needs.
func TestWorkerJobAsksOnce(t *testing.T) {
	t.Parallel()
	j := WorkerJob{CPUs: 4, GPUs: 2, MemBytes: 3<<30 + 1, Site: Site{Partition: "gpu", Account: "ada", QOS: "q", Constraint: "a100", Walltime: 90*time.Second + 1}}
	for directives, want := range map[string]string{
		"":                              "--partition=gpu --account=ada --qos=q --constraint=a100 --time=2 --cpus-per-task=4 --mem=3073M --gres=gpu:2 --signal=B:TERM@60",
		"--gpus-per-node=4":             "--partition=gpu --account=ada --qos=q --constraint=a100 --time=2 --cpus-per-task=4 --mem=3073M --gpus-per-node=4 --signal=B:TERM@60",
		"--mem-per-cpu=1G --time=30":    "--partition=gpu --account=ada --qos=q --constraint=a100 --cpus-per-task=4 --gres=gpu:2 --mem-per-cpu=1G --time=30 --signal=B:TERM@60",
		"--signal=B:USR1@9 --exclusive": "--partition=gpu --account=ada --qos=q --constraint=a100 --time=2 --cpus-per-task=4 --mem=3073M --gres=gpu:2 --exclusive --signal=B:TERM@60",
	} {
		j.Site.Directives = strings.Fields(directives)
		text, err := j.script()
		if err != nil {
			t.Error(err)
			continue
		}
		var got []string
		for line := range strings.Lines(string(text)) {
			if o, ok := strings.CutPrefix(line, "#SBATCH "); ok {
				got = append(got, strings.TrimSpace(o))
			}
		}
		if words := strings.Join(got, " "); words != want {
			t.Errorf("%s:\n%s, want\n%s", directives, words, want)
		}
	}
	for _, site := range []Site{{Partition: "a b"}, {Directives: []string{"--array=1-3"}}, {QOS: "x\n#SBATCH --uid=0"}} {
		if text, err := (WorkerJob{CPUs: 1, Site: site}).script(); err == nil {
			t.Errorf("taken:\n%s", text)
		}
	}
}

// TestWorkerJobRuns what it is given, word for word, behind the setup.
func TestWorkerJobRuns(t *testing.T) {
	t.Parallel()
	j := WorkerJob{CPUs: 1, Argv: []string{"printf", "<%s>", "a b", "it's", "$X", "", "new\nline"}, Env: []string{"Y=$(id) 'q'"}, Site: Site{Setup: []string{"X=1", `printf '[%s]' "$X"`}}}
	text, err := j.script()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash")
	cmd.Stdin = strings.NewReader(string(text))
	got, err := cmd.CombinedOutput()
	if want := "[1]<a b><it's><$X><><new\nline>"; err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	j.Argv = []string{"printenv", "Y"}
	if text, err = j.script(); err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), "bash")
	cmd.Stdin = strings.NewReader(string(text))
	if got, err = cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(got), "$(id) 'q'\n") {
		t.Errorf("%q, %v", got, fmt.Sprint(err))
	}
}
