package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// slurmEnv is an environment with the commands of Slurm, which say what was recorded.
func slurmEnv(t *testing.T, sbatch string) Env {
	t.Helper()
	env := testEnv(t)
	recorded, err := filepath.Abs("../../slurm/testdata/22.05")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for name, text := range map[string]string{
		"scontrol": "case $* in *config*) cat " + recorded + "/config.txt ;; *) cat " + recorded + "/partition.txt ;; esac",
		"sinfo":    "cat " + recorded + "/sinfo.txt",
		"sbatch":   "cat >/dev/null; cat " + recorded + "/" + sbatch + " >&2; case " + sbatch + " in *refused*) exit 1 ;; esac",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	env.Environ = slices.DeleteFunc(slices.Clone(env.Environ), func(kv string) bool { return strings.HasPrefix(kv, "PATH=") })
	env.Environ = append(env.Environ, "PATH="+bin+":/usr/bin:/bin")
	return env
}

func TestSlurmCommand(t *testing.T) {
	env := slurmEnv(t, "test-only.txt")
	out := expect(t, env, exitDone, "cluster testbed, Slurm 22.05.8\n", "", "slurm", "info")
	for _, line := range []string{
		"PARTITION\tSTATE\tTIME LIMIT\tDEFAULT\tNODES\tFREE CPUS\tFREE GPUS\n", "main*\tup\t7-00:00:00\t01:00:00\t3 of 4\t28 of 64\t1 of 16 h100\n", "no templates: [slurm] templates",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("no %q in\n%s", line, out)
		}
	}
	var info jsonSlurm
	if err := json.Unmarshal([]byte(expect(t, env, exitDone, "{", "", "slurm", "info", "--json")), &info); err != nil || len(info.Partitions) != 3 || info.Accounting || info.Partitions[0].GPUs[0] != (jsonGPUCount{"h100", 16, 1}) {
		t.Errorf("%+v, %v", info, err)
	}
	script := expect(t, env, exitDone, "#!/bin/bash\n#SBATCH --time=1440\n#SBATCH --gres=gpu:2\ndspy_dir=", "runs, in "+env.Cwd+": python train.py",
		"slurm", "render", "--class", "gpu_slurm", "--gpus", "2", "--", "python", "train.py")
	if !strings.Contains(script, "\n\techo \"dspy-agent: $dspy_dir") {
		t.Error("it is not the script as it is")
	}
	expect(t, env, exitDone, "Slurm takes it: as of now it would begin ", "", "slurm", "test", "--class", "gpu_slurm", "--", "true")
	expect(t, env, exitDone, `"nodes":"n1","partition":"main"`, "", "slurm", "test", "--class", "gpu_slurm", "--json", "--", "true")
	expect(t, slurmEnv(t, "test-only-refused.txt"), exitRefused, "", "slurm refused the job: Requested node configuration is not available", "slurm", "test", "--class", "gpu_slurm", "--", "true")
	for args, want := range map[string]struct {
		code int
		text string
	}{
		"slurm":                                      {exitUsage, "one of info, render, test"},
		"slurm infos":                                {exitUsage, "did you mean info?"},
		"slurm info x":                               {exitUsage, `"x" is too much`},
		"slurm info --gpus 2":                        {exitUsage, "--gpus goes with slurm render"},
		"slurm render":                               {exitUsage, "the id of a task, or --class"},
		"slurm render a b":                           {exitUsage, "the id of a task, or --class"},
		"slurm render a --gpus 2":                    {exitUsage, "--gpus goes with --class"},
		"slurm render --class gpu_slrm -- x":         {exitUsage, "did you mean gpu_slurm?"},
		"slurm render --class gpu_slurm":             {exitRefused, "the command is empty"},
		"slurm render --class cpu_long -- true":      {exitRefused, "it would be no job: class cpu_long has backends process, container"},
		"slurm test --class gpu_slurm --gpus 0 -- x": {exitUsage, "--gpus 0"},
		"slurm render nobody":                        {exitNotFound, "there is no queue"},
	} {
		expect(t, env, want.code, "", want.text, strings.Fields(args)...)
	}
}

// TestSlurmCommandByTemplate renders a template, and says what is wrong with it.
func TestSlurmCommandByTemplate(t *testing.T) {
	env := slurmEnv(t, "test-only.txt")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"train.sh": "#!/bin/bash\n#SBATCH --nodes=${NODES:-1} --job-name=x\nexec \"$@\" $LR\n",
		"c.toml":   "[slurm]\ntemplates = \"" + dir + "\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	conf := filepath.Join(dir, "c.toml")
	out := expect(t, env, exitDone, "#SBATCH --nodes=3\n", "note: template train: line 2: --job-name is set by the scheduler",
		"slurm", "render", "--config", conf, "--class", "gpu_slurm", "--payload", `{"template":"train","nodes":3,"lr":"$(id)"}`)
	if !strings.HasSuffix(out, "\n\n#!/bin/bash\n#SBATCH --nodes=${NODES:-1} --job-name=x\nexec \"$@\" $LR\n") || strings.Contains(out, "$(id)") {
		t.Error(out)
	}
	expect(t, env, exitDone, `"values":["NODES=3","LR=$(id)"]`, "note: ", "slurm", "test", "--json", "--config", conf, "--class", "gpu_slurm", "--payload", `{"template":"train","nodes":3,"lr":"$(id)"}`)
	expect(t, env, exitDone, "templates in "+dir+": train\n", "", "slurm", "info", "--config", conf)
	expect(t, env, exitRefused, "", `"template" is "tarin", which is not in`, "slurm", "render", "--config", conf, "--class", "gpu_slurm", "--payload", `{"template":"tarin"}`)
}

// TestSlurmCommandWithoutSlurm says what to do.
func TestSlurmCommandWithoutSlurm(t *testing.T) {
	env := testEnv(t)
	env.Environ = append(slices.Clone(env.Environ), "PATH="+t.TempDir())
	expect(t, env, exitNoDaemon, "", "slurm is not set up here: there is no scontrol on PATH; run this on a login node of the cluster", "slurm", "info")
	expect(t, env, exitNoDaemon, "", "module load slurm", "slurm", "test", "--class", "gpu_slurm", "--", "true")
	expect(t, env, exitDone, "#!/bin/bash\n", "sbatch --job-name=", "slurm", "render", "--class", "gpu_slurm", "--", "true")
}
