package slurm

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dspy-agent/dspy-agent/internal/shellword"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
	"github.com/dspy-agent/dspy-agent/slurm/template"
)

// hostile is text that shells, sbatch or C would take for something else.
func hostile() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"'", `"`, "$(touch /tmp/x)", "`id`", "\n#SBATCH --uid=0\n", "\\", "%", "a\nexit 0\n", "--", "-n", "${IFS}", "\r", "\x01", "é", "* ?", "#", ";", "&&", ""}),
		rapid.StringMatching(`[^\x00]{0,40}`),
	)
}

// scriptOf is what sbatch is given for a task.
func scriptOf(t task.Task, site Site, from *template.Template) ([]byte, error) {
	p, err := planOf(t.Spec, t.Ref(), site, from)
	if err != nil {
		return nil, err
	}
	return p.script("/q/7-1.slurm", "/q/news.log"), nil
}

// TestScriptIsTheSame: whatever a task says, only numbers in its script are its own.
func TestScriptIsTheSame(t *testing.T) {
	t.Parallel()
	site := Site{Partition: "gpu", Setup: []string{"true"}}
	plain := task.New(7, &task.Spec{ID: "t", Class: "c", Argv: []string{"true"}, Dir: "/", Resources: task.Resources{GPUs: 1}}, 0)
	want, err := scriptOf(plain, site, nil)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := *plain.Spec
		s.ID, s.Name, s.Class = hostile().Draw(t, "id"), hostile().Draw(t, "name"), hostile().Draw(t, "class")
		s.Argv, s.Dir = rapid.SliceOfN(hostile(), 1, 4).Draw(t, "argv"), hostile().Draw(t, "dir")
		s.Env = []string{"X=" + hostile().Draw(t, "value")}
		s.Payload = []byte(hostile().Draw(t, "payload"))
		got, err := scriptOf(task.New(7, &s, 0), site, nil)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%v\n%s", err, got)
		}
	})
}

// TestGPUModel: the one text of a task that is a directive is refused unless it is harmless.
func TestGPUModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		model := hostile().Draw(t, "model")
		got, err := scriptOf(task.New(7, &task.Spec{Argv: []string{"true"}, Resources: task.Resources{GPUs: 1, GPUModel: model}}, 0), Site{}, nil)
		if err != nil {
			return
		}
		head, _, _ := strings.Cut(string(got), "dspy_dir=")
		if n := strings.Count(head, "#SBATCH"); n != 1 || strings.Count(head, "\n") != 2 || strings.ContainsAny(head, "'\"\\$`") {
			t.Fatalf("%q", head)
		}
	})
}

// TestBashReadsWhatWasWritten: arguments, environment and folder come out of the files as
// they were put in.
func TestBashReadsWhatWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(hostile(), 1, 4).Draw(t, "words")
		cmd := exec.Command("bash", "-c", `dspy_argv=(); while IFS= read -r -d '' w; do dspy_argv+=("$w"); done; printf '%s\0' "${dspy_argv[@]}"`)
		cmd.Stdin = bytes.NewReader(list(words))
		got, err := cmd.Output()
		if err != nil || !bytes.Equal(got, list(words)) {
			t.Fatalf("%q became %q, %v", words, got, err)
		}
	})
}

// TestFolderWithQuotes: a path of our own may have anything in it.
func TestFolderWithQuotes(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"/a b/c'd", `/a"b$(id)`, "/x%j\\y", "/new\nline"} {
		got, err := exec.Command("bash", "-c", "printf %s "+shellword.Always(dir)).Output()
		if err != nil || string(got) != dir {
			t.Errorf("%q became %q, %v", dir, got, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add("start 12.0 n1 1700000000.5 0,1\nexit 12.0 3 1700000001.25 -\n")
	f.Add("start 12.0 n1 17 -\nfault folder\nlimit 18\nexit 12.1 137 19.000000001 18.5\nexit 1")
	f.Fuzz(func(t *testing.T, text string) {
		r := parseRecord(text)
		if r.Exited && (r.Code < 0 || r.Code > 255) || r.Exited && !strings.Contains(text, "exit ") {
			t.Fatalf("%+v", r)
		}
	})
}

func FuzzQueue(f *testing.F) {
	f.Add("12|dspy-q-1-1|PENDING|gpu|1700000000||Resources")
	f.Add("12_[1-3]|x|RUNNING|||n[1-3]|None|bar")
	f.Fuzz(func(t *testing.T, line string) {
		j, ok := parseJob(line)
		if ok && (j.ID == "" || strings.ContainsAny(j.ID, " |")) {
			t.Fatalf("%+v", j)
		}
		_ = reasonText(j, false, time.Unix(0, 0))
		_ = parseSettings(line)
		_ = refusalIn(line)
	})
}

func TestNames(t *testing.T) {
	t.Parallel()
	ref := task.Ref{Seq: 42, Attempt: 3}
	if got, ok := refOf("q", nameOf("q", ref)); !ok || got != ref {
		t.Errorf("%v, %t", got, ok)
	}
	for _, name := range []string{"dspy-q-42", "dspy-q-x-1", "dspy-r-42-3", "other", "dspy-q-42-3-1"} {
		if ref, ok := refOf("q", name); ok {
			t.Errorf("%s is %v", name, ref)
		}
	}
}

// TestClaim: whoever is first has it, and the other can tell.
func TestClaim(t *testing.T) {
	t.Parallel()
	f := folder{taskfiles.Layout{Dir: t.TempDir()}, task.Ref{Seq: 1, Attempt: 1}}
	for range 2 { // and again after a crash
		if taken, err := f.takeClaim(); err != nil || !taken {
			t.Fatal(taken, err)
		}
	}
	g := folder{taskfiles.Layout{Dir: t.TempDir()}, task.Ref{Seq: 1, Attempt: 1}}
	if _, err := g.write(plan{spec: &task.Spec{Argv: []string{"true"}, Dir: "/"}, ref: g.ref}, filepath.Join(g.layout.Dir, "news")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", g.path(scriptFile))
	cmd.Env = append(cmd.Environ(), "SLURM_JOB_ID=5", "SLURMD_NODENAME=n1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r, known, err := g.record()
	if err != nil || !known || r.Job != "5" || r.Node != "n1" || !r.Exited || r.Code != 0 {
		t.Errorf("%+v, %t, %v", r, known, err)
	}
	if taken, err := g.takeClaim(); err != nil || taken || !g.claimed() {
		t.Errorf("taken from a job that has worked: %t, %v", taken, err)
	}
	// A second job for the same attempt does nothing.
	again := exec.Command("bash", g.path(scriptFile))
	again.Env = append(again.Environ(), "SLURM_JOB_ID=6", "SLURMD_NODENAME=n2")
	if out, err := again.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if r, _, err := g.record(); err != nil || r.Job != "5" {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestNumberFromTheRecord: when the number that sbatch answered was lost with the daemon,
// and the job is over, its end is still looked for.
func TestNumberFromTheRecord(t *testing.T) {
	t.Parallel()
	b, err := New(Options{QueueID: "q", TasksDir: filepath.Join(t.TempDir(), "tasks"), Slurm: &Client{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	j := b.newJob(task.New(1, &task.Spec{Argv: []string{"true"}, Dir: "/"}, 0))
	if _, err := j.dir.write(plan{spec: j.task.Spec, ref: j.ref}, b.news.path); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.dir.intend(time.Now()), os.WriteFile(j.dir.path(recordFile), []byte("start 5.0 n1 1700000000.5 -\n"), 0o600), j.recall()); err != nil {
		t.Fatal(err)
	}
	b.settle(j)
	later := time.Now().Add(time.Hour)
	j.see(nil, later)
	if !j.isOver() {
		t.Errorf("nobody looks for job 5: known are %q", j.ids)
	}
}
