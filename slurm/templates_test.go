package slurm

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/slurmtest"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/slurm/template"
)

// shipped is where the templates are that come with the product.
const shipped = "../deploy/slurm"

// standIn takes the place of a program: it says how it was called.
const standIn = `#!/bin/bash
printf '%s' "${0##*/}"; printf ' <%s>' "$@"; echo; echo "gpus=${CUDA_VISIBLE_DEVICES:-none} in=$PWD"
`

// templated is a task of which its template makes a job.
func templated(payload string, argv ...string) task.Spec {
	s := task.Spec{Payload: json.RawMessage(payload), Argv: argv}
	if len(argv) == 0 {
		s.Builtin = task.BuiltinTemplate
	}
	return s
}

// TestTemplates runs those that are shipped, and one as people have them, on a cluster.
func TestTemplates(t *testing.T) {
	t.Parallel()
	c := slurmtest.Shared(t, slurmtest.Config{})
	p := newPlace(t, c)
	dir, bin := t.TempDir(), t.TempDir()
	entries, err := os.ReadDir(shipped)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(shipped, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, e.Name()), string(text))
	}
	put(t, filepath.Join(dir, "grpo.sbatch"), `#!/bin/bash
#SBATCH --job-name=train-${TASK_ID} --output=${LOG_DIR:-logs}/%j.out
#SBATCH -N ${NODES:-1} --gres=gpu:${GPUS:-1} --signal=B:USR1@50
trap 'echo heard' USR1
echo "task=$TASK_ID model=<${MODEL_NAME}> path=${PATH%%:*} nodes=$SLURM_JOB_NUM_NODES gpus=$CUDA_VISIBLE_DEVICES args=$# name=$SLURM_JOB_NAME"
kill -USR1 "$PPID" && sleep 5 & wait $! ; wait $!
exit 3
`)
	for _, name := range []string{"torchrun", "apptainer", "docker"} {
		put(t, filepath.Join(bin, name), standIn)
	}
	p.opts.Template = func(s *task.Spec) (*template.Template, error) { return template.Open(dir).Choose(s.Payload, s.Class) }
	d := p.daemon(t)
	d.path = bin + ":/usr/bin:/bin"

	evil := "a'; $(touch " + filepath.Join(dir, "evil") + ") \"\n#SBATCH --nodes=4\n"
	payload, err := json.Marshal(map[string]any{"method": "grpo", "gpus": 3, "model_name": evil, "path": "/evil"})
	if err != nil {
		t.Fatal(err)
	}
	field := d.launch(1, templated(string(payload)))
	one := d.launch(2, templated(`{"template":"one-gpu"}`, "sh", "-c", `echo "gpus=$CUDA_VISIBLE_DEVICES cpus=$SLURM_CPUS_PER_TASK threads=$OMP_NUM_THREADS"`))
	torch := d.launch(3, templated(`{"template":"torchrun","gpus":2,"memory_gb":1,"cpus_per_task":2}`, "train.py", "--x", "a b"))
	box := d.launch(4, templated(`{"template":"apptainer","image":"/i.sif"}`, "python", "x y"))
	dock := d.launch(5, templated(`{"template":"docker","image":"i:1","gpus":2}`, "python"))
	nameless := d.launch(6, templated(`{"template":"docker"}`, "python"))
	broken := d.launch(7, templated(`{"template":"one-gpu","gpus":"1 --array=1-9"}`, "true"))
	missing := d.launch(8, templated(`{"template":"none"}`, "true"))

	d.wantEnd(field, task.Failed, task.UserError, "")
	d.wantOutput(field, "task=t1 model=<"+evil+"> path="+bin+" nodes=1 gpus=", " args=0 name=dspy-", "heard")
	if _, err := os.Stat(filepath.Join(dir, "evil")); err == nil {
		t.Error("text of the payload was run")
	}
	d.wantEnd(one, task.Succeeded, task.NoFailure, "")
	d.wantOutput(one, " cpus=8 threads=8")
	d.wantEnd(torch, task.Succeeded, task.NoFailure, "")
	d.wantOutput(torch, "torchrun <--nnodes=2> <--nproc-per-node=2>", "<--rdzv-endpoint=n", "<train.py> <--x> <a b>")
	if n := strings.Count(p.output(t, torch), "torchrun <"); n != 2 {
		t.Errorf("torchrun ran %d times\n%s", n, p.output(t, torch))
	}
	d.wantEnd(box, task.Succeeded, task.NoFailure, "")
	d.wantOutput(box, "apptainer <exec> <--nv> <--bind> </>", "</i.sif> <python> <x y>")
	d.wantEnd(dock, task.Succeeded, task.NoFailure, "")
	d.wantOutput(dock, `docker <run> <--rm> <--name> <dspy-slurm-`, `<--gpus> <"device=`, "<i:1> <python>")
	d.wantEnd(nameless, task.Failed, task.UserError, "")
	d.wantOutput(nameless, "the payload has to name the image")
	d.wantEnd(broken, task.Failed, task.UserError, "template one-gpu: line 7")
	d.wantEnd(missing, task.Failed, task.UserError, `"template" is "none"`)
}

// TestShippedTemplatesAreTaken by Slurm, with and without values.
func TestShippedTemplatesAreTaken(t *testing.T) {
	t.Parallel()
	names, err := template.Open(shipped).Names()
	if err != nil || len(names) < 5 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		if name == "worker" {
			continue // it is the scheduler that submits it
		}
		for _, payload := range []string{`{"template":%q}`, `{"template":%q,"nodes":1,"gpus":4,"memory_gb":8,"cpus_per_task":2,"time_limit":"10:00","image":"x"}`} {
			s := templated(strings.Replace(payload, "%q", `"`+name+`"`, 1), "true")
			s.ID = "t"
			tpl, err := template.Open(shipped).Choose(s.Payload, "")
			if err != nil {
				t.Error(err)
				continue
			}
			if err := Check(&s, Site{}, tpl); err != nil {
				t.Error(err)
			}
		}
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
}

// wantOutput says what has to be in the output of an attempt.
func (d *daemon) wantOutput(ref task.Ref, words ...string) {
	d.t.Helper()
	b, err := os.ReadFile(d.layout.LogPath(ref))
	if err != nil {
		d.t.Error(err)
	}
	for _, w := range words {
		if !strings.Contains(string(b), w) {
			d.t.Errorf("task %d: no %q in\n%s", ref.Seq, w, b)
		}
	}
}
