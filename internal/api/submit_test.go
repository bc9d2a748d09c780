package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func TestSubmitInFull(t *testing.T) {
	f := setup(t)
	f.submit("first")
	sent := &pb.TaskSpec{
		Argv: []string{"python", "train.py", "--lr=0.1"}, Dir: "/data", Env: []string{"B=2", "A=1", "B=3"},
		PayloadJson: []byte(`{"a": 1, "b": {"x": [1, 2]}}`), TimeoutMs: 1500, GraceMs: 250, Retries: 2, BackoffMs: 10,
		After: []*pb.Dependency{{Id: "first"}}, OnLost: "retry", Tenant: "lab", Backends: []string{"process"},
		Resources: &pb.Resources{CpuMillicores: 500, MemBytes: 1 << 20},
	}
	answer, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{
		Id: "full", Class: "cpu_long", Name: "a name", Priority: -3, WorkflowId: "w1", Spec: sent,
		Payload: map[string]string{"a": "007", "c": `["x"]`, "d": "<b>"},
	})
	if err != nil || !answer.GetSuccess() || answer.GetSeq() != 2 || answer.GetExisting() {
		t.Fatalf("got %v, %v", answer, err)
	}
	s := f.lookup("full").Spec
	if got, want := string(s.Payload), `{"a":"007","b":{"x":[1,2]},"c":["x"],"d":"<b>"}`; got != want {
		t.Errorf("payload %s, want %s", got, want)
	}
	if s.Timeout != 1500*time.Millisecond || s.OnLost != task.LostRetry || s.Class != "cpu_long" || s.Priority != -3 || s.WorkflowID != "w1" {
		t.Errorf("spec is %+v", s)
	}
	info, err := f.GetTask(f.ctx, &pb.GetTaskRequest{TaskId: "full"})
	if err != nil {
		t.Fatal(err)
	}
	want := proto.CloneOf(sent)
	want.PayloadJson, want.Env, want.After[0].When = s.Payload, []string{"A=1", "B=3"}, "ok"
	if !proto.Equal(info.GetSpec(), want) {
		t.Errorf("spec came back as\n%v, want\n%v", info.GetSpec(), want)
	}
	if info.GetName() != "a name" || info.GetBlocked() != 1 || info.GetSubmittedVia() != "socket" || info.GetSubmittedAtNs() == 0 {
		t.Errorf("info is %v", info)
	}
}

// TestSubmitWarnsOfWhatIsMissing: a task that nothing on this host runs is accepted, and
// who submits it hears so.
func TestSubmitWarnsOfWhatIsMissing(t *testing.T) {
	f := setup(t, func(o *api.Options) {
		o.Missing = func(t task.Task) string { return "nothing runs " + t.Spec.Class }
	})
	answer, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Class: "cpu_long", Spec: &pb.TaskSpec{Argv: []string{"true"}}})
	if err != nil || !answer.GetSuccess() || answer.GetWarning() != "nothing runs cpu_long" {
		t.Errorf("got %v, %v", answer, err)
	}
}

// TestSubmitWarns: what this machine has not got is accepted, and said to be in vain.
func TestSubmitWarns(t *testing.T) {
	f := setup(t, func(o *api.Options) { o.Machine = api.Machine{CPUMilli: 4000, MemBytes: 8 << 30} })
	for id, tc := range map[string]struct {
		needs *pb.Resources
		want  string
	}{
		"fits":  {&pb.Resources{CpuMillicores: 4000, MemBytes: 8 << 30}, ""},
		"plain": {nil, ""},
		"cpus":  {&pb.Resources{CpuMillicores: 4500}, "it needs 4.5 CPUs; this machine has 4 for tasks, so it does not start here"},
		"mem":   {&pb.Resources{MemBytes: 1 << 40}, "it needs 1.0 TiB of memory; this machine has 8.0 GiB for tasks, so it does not start here"},
	} {
		answer, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Id: id, Spec: &pb.TaskSpec{Argv: []string{"true"}, Resources: tc.needs}})
		if err != nil || !answer.GetSuccess() || answer.GetWarning() != tc.want {
			t.Errorf("%s: got %v, %v", id, answer, err)
		}
		why, err := f.ExplainTask(f.ctx, &pb.ExplainTaskRequest{TaskId: id})
		if err != nil || strings.Contains(why.GetReason(), "in vain") != (tc.want != "") {
			t.Errorf("%s: explained as %v, %v", id, why, err)
		}
	}
}

func TestSubmitByPayload(t *testing.T) {
	f := setup(t)
	for _, tc := range []struct {
		name    string
		class   string
		payload map[string]string
		argv    []string
		builtin string
		dir     string
		timeout time.Duration
	}{
		{name: "shell line", payload: map[string]string{"command": "echo $HOME"}, argv: []string{"/bin/sh", "-c", "echo $HOME"}, dir: "/w"},
		{name: "words", payload: map[string]string{"command": `["echo", "$HOME"]`, "workdir": "/tmp", "timeout": "90"}, argv: []string{"echo", "$HOME"}, dir: "/tmp", timeout: 90 * time.Second},
		{name: "echo", payload: map[string]string{"message": "hello"}, builtin: task.BuiltinEcho},
		{name: "nothing", builtin: task.BuiltinEcho},
		{name: "class limit", class: "limited", payload: map[string]string{"command": "true"}, argv: []string{"/bin/sh", "-c", "true"}, dir: "/w", timeout: time.Minute},
	} {
		answer, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Class: tc.class, Payload: tc.payload})
		if err != nil || !answer.GetSuccess() {
			t.Errorf("%s: %v, %v", tc.name, answer, err)
			continue
		}
		s := f.lookup(answer.GetTaskId()).Spec
		if !slices.Equal(s.Argv, tc.argv) || s.Builtin != tc.builtin || s.Dir != tc.dir || s.Timeout != tc.timeout {
			t.Errorf("%s: became %+v", tc.name, s)
		}
	}
}

func TestSubmitRefusals(t *testing.T) {
	f := setup(t)
	spec := func(s *pb.TaskSpec) *pb.SubmitTaskRequest {
		if len(s.GetArgv()) == 0 {
			s.Argv = []string{"true"}
		}
		return &pb.SubmitTaskRequest{Id: "r", Spec: s}
	}
	for name, tc := range map[string]struct {
		req  *pb.SubmitTaskRequest
		code task.Code
		hint string
	}{
		"unknown class":   {&pb.SubmitTaskRequest{Class: "nope"}, task.CodeInvalid, "cpu_long"},
		"later class":     {&pb.SubmitTaskRequest{Class: "gpu"}, task.CodeUnsupported, "later"},
		"bad id":          {&pb.SubmitTaskRequest{Id: "../x"}, task.CodeInvalid, "id"},
		"nothing to run":  {&pb.SubmitTaskRequest{Class: "cpu_long"}, task.CodeInvalid, "command"},
		"action":          {&pb.SubmitTaskRequest{Payload: map[string]string{"action": "x"}}, task.CodeInvalid, "command"},
		"python":          {&pb.SubmitTaskRequest{Payload: map[string]string{"command": "['python', 'x.py']"}}, task.CodeInvalid, "json.dumps"},
		"type":            {&pb.SubmitTaskRequest{Payload: map[string]string{"type": "rl_sweep"}}, task.CodeInvalid, "[types.rl_sweep]"},
		"mounts":          {spec(&pb.TaskSpec{Argv: []string{"x"}, Mounts: []*pb.Mount{{HostPath: "/a", MountPath: "/a"}}}), task.CodeInvalid, "need an image"},
		"gpus":            {spec(&pb.TaskSpec{Resources: &pb.Resources{Gpus: 2, Mig: "1g.10gb"}}), task.CodeInvalid, "only one MIG instance"},
		"needs":           {spec(&pb.TaskSpec{Needs: []string{"redis"}}), task.CodeUnsupported, "services"},
		"no words":        {&pb.SubmitTaskRequest{Spec: &pb.TaskSpec{}}, task.CodeInvalid, "command"},
		"relative dir":    {spec(&pb.TaskSpec{Dir: "x"}), task.CodeInvalid, "absolute"},
		"long timeout":    {spec(&pb.TaskSpec{TimeoutMs: 1 << 62}), task.CodeInvalid, "timeout_ms"},
		"negative":        {spec(&pb.TaskSpec{GraceMs: -1}), task.CodeInvalid, "grace_ms"},
		"on_lost":         {spec(&pb.TaskSpec{OnLost: "shrug"}), task.CodeInvalid, "on_lost"},
		"condition":       {spec(&pb.TaskSpec{After: []*pb.Dependency{{Id: "a", When: "maybe"}}}), task.CodeInvalid, "notok"},
		"payload is list": {spec(&pb.TaskSpec{PayloadJson: []byte(`[]`)}), task.CodeInvalid, "object"},
		"payload is null": {spec(&pb.TaskSpec{PayloadJson: []byte(`null`)}), task.CodeInvalid, "object"},
		"large payload":   {spec(&pb.TaskSpec{PayloadJson: []byte(`{"a":"` + strings.Repeat("x", task.MaxPayloadBytes) + `"}`)}), task.CodeInvalid, "bytes"},
	} {
		answer, err := f.SubmitTask(f.ctx, tc.req)
		switch {
		case err != nil:
			t.Errorf("%s: the call failed: %v", name, err)
		case answer.GetSuccess() || answer.GetCode() != tc.code.String() || !strings.Contains(answer.GetError(), tc.hint):
			t.Errorf("%s: got %v, want %s and a word about %q", name, answer, tc.code, tc.hint)
		}
	}
	if n := f.q.Counts().Total(task.States...); n != 0 {
		t.Errorf("%d refused tasks are in the queue", n)
	}
}

func TestSubmitAgain(t *testing.T) {
	f := setup(t)
	req := &pb.SubmitTaskRequest{Id: "same", Payload: map[string]string{"n": "1"}}
	first, err := f.SubmitTask(f.ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.SubmitTask(f.ctx, req)
	if err != nil || !again.GetSuccess() || !again.GetExisting() || again.GetSeq() != first.GetSeq() {
		t.Errorf("the same again: %v, %v", again, err)
	}
	req.Payload["n"] = "2"
	other, err := f.SubmitTask(f.ctx, req)
	if err != nil || other.GetSuccess() || other.GetCode() != task.CodeConflict.String() || other.GetTaskId() != "same" {
		t.Errorf("another under the same id: %v, %v", other, err)
	}
}

func TestSubmitManyAnswersEachInOrder(t *testing.T) {
	f := setup(t)
	req := &pb.SubmitTasksRequest{}
	for i := range 50 {
		one := &pb.SubmitTaskRequest{Id: fmt.Sprintf("t%02d", i), Payload: map[string]string{"command": "true"}}
		if i%7 == 3 {
			one.Class = "nope"
		}
		req.Tasks = append(req.Tasks, one)
	}
	reply, err := f.SubmitTasks(f.ctx, req)
	if err != nil || len(reply.GetResults()) != 50 {
		t.Fatalf("got %d answers, %v", len(reply.GetResults()), err)
	}
	for i, answer := range reply.GetResults() {
		if answer.GetTaskId() != req.Tasks[i].GetId() || answer.GetSuccess() == (i%7 == 3) {
			t.Errorf("answer %d is %v", i, answer)
		}
	}
	_, err = f.SubmitTasks(f.ctx, &pb.SubmitTasksRequest{Tasks: make([]*pb.SubmitTaskRequest, api.MaxBatch+1)})
	wantCode(t, err, task.CodeExhausted)
	if reply, err := f.SubmitTasks(f.ctx, &pb.SubmitTasksRequest{}); err != nil || len(reply.GetResults()) != 0 {
		t.Errorf("no tasks: %v, %v", reply, err)
	}
}

func TestHugeAndBrokenRequests(t *testing.T) {
	f := setup(t)
	big := strings.Repeat("x", 8<<20)
	var tasks []*pb.SubmitTaskRequest
	for range 9 {
		tasks = append(tasks, &pb.SubmitTaskRequest{Payload: map[string]string{"x": big}})
	}
	_, err := f.SubmitTasks(f.ctx, &pb.SubmitTasksRequest{Tasks: tasks})
	wantCode(t, err, task.CodeExhausted)

	_, err = f.SubmitTasks(f.ctx, &pb.SubmitTasksRequest{Tasks: []*pb.SubmitTaskRequest{{}, {Spec: &pb.TaskSpec{Argv: []string{"a", "\xff"}}}}})
	wantCode(t, err, task.CodeInvalid)
	wantWords(t, err, "tasks[1].spec.argv[1]")
	_, err = f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Payload: map[string]string{"k": "\xff"}})
	wantCode(t, err, task.CodeInvalid)
	f.submit("after-that")
}

// A task of a class that has an image runs in that, unless it names another, or is one of
// our own programs.
func TestImageOfAClass(t *testing.T) {
	f := setup(t)
	for _, c := range []struct {
		spec *pb.TaskSpec
		want string
	}{
		{&pb.TaskSpec{Argv: []string{"true"}}, "python:3.12"},
		{&pb.TaskSpec{Argv: []string{"true"}, Image: "own:1"}, "own:1"},
	} {
		answer, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Class: "boxed", Spec: c.spec})
		if err != nil || !answer.GetSuccess() {
			t.Fatalf("%v, %v", answer, err)
		}
		if got := f.lookup(answer.GetTaskId()).Spec.Image; got != c.want {
			t.Errorf("%v runs in %q, want %q", c.spec, got, c.want)
		}
	}
}

// A payload may leave the image to its class, and have mounts all the same; what containers
// are not given is refused at once.
func TestAdmission(t *testing.T) {
	f := setup(t, func(o *api.Options) {
		o.AdmitContainer = func(s *task.Spec) error {
			if len(s.Mounts) > 0 && s.Mounts[0].Host == "/etc" {
				return task.Errorf(task.CodeInvalid, "mount /etc: not here")
			}
			return nil
		}
	})
	ask := func(host string) (*pb.SubmitTaskResponse, error) {
		return f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Class: "boxed", Payload: map[string]string{
			"execution": `{"command": ["true"], "mounts": [{"host_path": "` + host + `", "mount_path": "/x"}]}`,
		}})
	}
	answer, err := ask("/data")
	if err != nil || !answer.GetSuccess() {
		t.Fatalf("%v, %v", answer, err)
	}
	if s := f.lookup(answer.GetTaskId()).Spec; s.Image != "python:3.12" || len(s.Mounts) != 1 {
		t.Errorf("%+v", s)
	}
	if answer, err = ask("/etc"); err == nil && answer.GetSuccess() || err == nil && !strings.Contains(answer.GetError(), "not here") {
		t.Errorf("%v, %v", answer, err)
	}
}
