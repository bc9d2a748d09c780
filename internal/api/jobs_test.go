package api_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
	"github.com/dspy-agent/dspy-agent/slurm"
	"github.com/dspy-agent/dspy-agent/slurm/template"
)

// jobs are those of a site with templates, where the class far is for Slurm alone, and
// near may go there.
type jobs struct{ templates *template.Folder }

func (j jobs) Template(s *task.Spec) (api.Template, error) {
	from, err := j.templates.Choose(s.Payload, s.Class)
	if err != nil || from == nil {
		return api.Template{}, err
	}
	return api.Template{Name: from.Name, Named: template.Named(s.Payload)}, nil
}

func (j jobs) Check(s *task.Spec) error {
	from, err := j.templates.Choose(s.Payload, s.Class)
	if err != nil {
		return err
	}
	return slurm.Check(s, slurm.Site{}, from)
}

func (jobs) Only(class string) bool { return class == "far" }

func (jobs) Number(t task.Task) string { return slurm.JobNumber(t.Status().Handle) }

// setupJobs serves a site with jobs.
func setupJobs(t *testing.T) *httpFixture {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"train.sh": "#!/bin/sh\n#SBATCH --nodes=${NODES:-1} --gres=gpu:${GPUS:-4}\necho $IMAGE\n", "grpo.sh": "#!/bin/sh\n#SBATCH --time=${HOURS}:00:00\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := &httpFixture{fixture: setup(t, func(o *api.Options) {
		o.Jobs = jobs{template.Open(dir)}
		o.Class = func(name string) (api.Class, error) {
			switch name {
			case "far", "near":
				return api.Class{Name: name, GPUs: 1, Elsewhere: true}, nil
			}
			return classes(name)
		}
	})}
	f.serveHTTP(rpc.HTTPOptions{Peer: me})
	return f
}

// TestTemplateIsTheProgram: what a payload says of a task that a template runs.
func TestTemplateIsTheProgram(t *testing.T) {
	f := setupJobs(t)
	type want struct {
		builtin, image string
		argv, backends []string
		gpus           int
	}
	for payload, w := range map[string]want{
		`{"template":"train"}`:                                  {builtin: "template", backends: []string{"slurm"}},
		`{"template":"train","image":"x.sif","gpus":2}`:         {builtin: "template", backends: []string{"slurm"}, gpus: 2},
		`{"template":"train","command":["python","a b"]}`:       {argv: []string{"python", "a b"}, backends: []string{"slurm"}},
		`{"method":"grpo","hours":2}`:                           {builtin: "template", backends: []string{"slurm"}},
		`{"method":"grpo","hours":2,"command":["true"]}`:        {argv: []string{"true"}},
		`{"method":"dpo","command":["true"]}`:                   {argv: []string{"true"}, gpus: 1},
		`{"template":"train","execution":{"command":["true"]}}`: {argv: []string{"true"}, backends: []string{"slurm"}},
	} {
		answer, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Class: "near", Payload: asText(t, payload)})
		if err != nil || !answer.GetSuccess() {
			t.Errorf("%s: %v %v", payload, answer, err)
			continue
		}
		s := f.lookup(answer.GetTaskId()).Spec
		if s.Builtin != w.builtin || s.Image != w.image || !slices.Equal(s.Argv, w.argv) || !slices.Equal(s.Backends, w.backends) || s.Resources.GPUs != w.gpus || s.Dir != "/w" {
			t.Errorf("%s became %+v", payload, s)
		}
	}
	for payload, words := range map[string]string{
		`{"template":"none"}`:                                               `"template" is "none", which is not in`,
		`{"template":"../train"}`:                                           "no path",
		`{"template":"train","nodes":"2 --array=1"}`:                        "template train: line 2",
		`{"method":"grpo"}`:                                                 `it needs a value for HOURS: add "hours" to the payload`,
		`{"method":"grpo","hours":1,"comand":"x"}`:                          `did you mean "command"`,
		`{"template":"train","execution":{"command":["true"],"image":"x"}}`: `"image" beside "execution"`,
		`{"method":"dpo"}`:                                                  "names nothing to run",
	} {
		answer, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Class: "near", Payload: asText(t, payload)})
		if err != nil || answer.GetSuccess() || !strings.Contains(answer.GetError(), words) {
			t.Errorf("%s: %v %v, want %q", payload, answer, err, words)
		}
	}
	// Where no Slurm is, the keys are the program's own.
	answer, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Payload: map[string]string{"template": "none", "message": "hello"}})
	if err != nil || !answer.GetSuccess() || f.lookup(answer.GetTaskId()).Spec.Builtin != task.BuiltinEcho {
		t.Error(answer, err)
	}
	// From a command line, that says the program itself, or leaves it to the template.
	spec := &pb.TaskSpec{PayloadJson: []byte(`{"template":"train"}`), Dir: "/x"}
	answer, err = f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Class: "far", Spec: spec})
	if err != nil || !answer.GetSuccess() || f.lookup(answer.GetTaskId()).Spec.Dir != "/x" {
		t.Error(answer, err)
	}
	spec.Argv, spec.Image = []string{"true"}, "x"
	if answer, err = f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Class: "far", Spec: spec}); err != nil || !strings.Contains(answer.GetError(), "runs by template train") {
		t.Error(answer, err)
	}
}

func asText(t *testing.T, object string) map[string]string {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(object), &members); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for k, v := range members {
		var s string
		if json.Unmarshal(v, &s) != nil {
			s = string(v)
		}
		out[k] = s
	}
	return out
}

// TestHTTPSlurm: a submission waits for the number of its job, and its state is told.
func TestHTTPSlurm(t *testing.T) {
	f := setupJobs(t)
	answers := make(chan answer, 1)
	go func() {
		a, _ := f.try("POST", "/queue/submit", strings.NewReader(`{"id":"a","class":"far","payload":{"command":["true"]}}`))
		answers <- a
	}()
	f.awaitTask("a")
	if got := f.ask("GET", "/slurm/status/a", ""); got.status != 200 || got.json["id"] != "" || got.json["status"] != "pending" || got.json["submit_time"] == "" {
		t.Errorf("%d %s", got.status, got.body)
	}
	f.apply("a", task.Event{Kind: task.EventPlaced, Backend: "slurm"}, nil)
	f.apply("a", task.Event{Kind: task.EventLaunched, Handle: []byte(`{"v":1,"job":"17"}`)}, nil)
	if got := <-answers; got.status != 200 || got.body != `{"ok":true,"id":"a","status":"submitted","slurm_job_id":"17"}`+"\n" {
		t.Errorf("%d %s", got.status, got.body)
	}
	// Sent again it has the number at once.
	if got := f.ask("POST", "/queue/submit", `{"id":"a","class":"far","payload":{"command":["true"]}}`); got.json["slurm_job_id"] != "17" {
		t.Errorf("%d %s", got.status, got.body)
	}
	f.apply("a", task.Event{Kind: task.EventStarted}, nil)
	if got := f.ask("GET", "/slurm/status/a", ""); got.json["id"] != "17" || got.json["status"] != "running" || got.json["start_time"] == nil || got.json["end_time"] != nil || got.json["exit_code"] != nil {
		t.Errorf("%d %s", got.status, got.body)
	}
	f.apply("a", task.Event{Kind: task.EventExited, Outcome: task.Outcome{ExitCode: 3}}, nil)
	if got := f.ask("GET", "/slurm/status/a", ""); got.json["status"] != "failed" || got.json["exit_code"] != 3.0 || got.json["error"] != "ended with exit code 3" || got.json["end_time"] == nil {
		t.Errorf("%d %s", got.status, got.body)
	}

	// One that Slurm refuses is a refused task.
	go func() {
		a, _ := f.try("POST", "/queue/submit", strings.NewReader(`{"id":"b","class":"far","payload":{"command":["true"]}}`))
		answers <- a
	}()
	f.awaitTask("b")
	f.apply("b", task.Event{Kind: task.EventPlaced, Backend: "slurm"}, nil)
	f.apply("b", task.Event{Kind: task.EventNotStarted, Class: task.UserError, Text: "Slurm refused the job: no such partition"}, nil)
	if got := <-answers; got.status != 400 || got.json["ok"] != false || !strings.Contains(got.body, "Slurm refused the job: no such partition") {
		t.Errorf("%d %s", got.status, got.body)
	}

	// A class that may run here is not waited for, and a task of it is no job until it is one.
	if got := f.ask("POST", "/queue/submit", `{"id":"c","class":"near","payload":{"command":["true"]}}`); got.body != `{"ok":true,"id":"c"}`+"\n" {
		t.Errorf("%d %s", got.status, got.body)
	}
	wantProblem(t, f.ask("GET", "/slurm/status/c", ""), 404, "not_found", "was not given to Slurm")

	metrics := f.ask("GET", "/metrics", "").body
	for _, line := range []string{"slurm_jobs_submitted_total 1", "slurm_jobs_completed_total 0", "slurm_jobs_failed_total 1"} {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("no %s", line)
		}
	}
}

// awaitTask waits until the queue has a task.
func (f *fixture) awaitTask(id string) {
	f.t.Helper()
	for {
		last := f.q.LastIndex()
		if _, err := f.q.Lookup(id); err == nil {
			return
		}
		if err := f.q.WaitRecords(f.ctx, last); err != nil {
			f.t.Fatal(err)
		}
	}
}
