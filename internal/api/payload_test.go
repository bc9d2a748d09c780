package api_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/payload"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// withTypes configures a task type of a class with a limit, and one of a class
// that is not there.
func withTypes(o *api.Options) {
	o.Types = payload.Types{
		"sweep":  {Argv: []string{"python", "sweep.py"}, Class: "limited", Dir: "/srv", Resources: task.Resources{CPUMilli: 2000}},
		"broken": {Argv: []string{"true"}, Class: "nope"},
		"torch":  {Argv: []string{"true"}, Image: "torch:2"},
	}
}

// TestSubmitByType checks the order in which a class is found: the request's, the
// type's, the default.
func TestSubmitByType(t *testing.T) {
	f := setup(t, withTypes)
	sweep := map[string]string{"type": "sweep", "lr": "0.1"}
	for name, tc := range map[string]struct {
		req     *pb.SubmitTaskRequest
		class   string
		timeout time.Duration
	}{
		"of the type":           {&pb.SubmitTaskRequest{Payload: sweep}, "limited", time.Minute},
		"of the request":        {&pb.SubmitTaskRequest{Class: "cpu_long", Payload: sweep}, "cpu_long", 0},
		"of the type, in full":  {&pb.SubmitTaskRequest{Spec: &pb.TaskSpec{PayloadJson: []byte(`{"type":"sweep"}`)}}, "limited", time.Minute},
		"a command of its own":  {&pb.SubmitTaskRequest{Payload: sweep, Spec: &pb.TaskSpec{Argv: []string{"true"}}}, "cpu_short", 0},
		"a command comes first": {&pb.SubmitTaskRequest{Payload: map[string]string{"type": "sweep", "command": "true"}}, "cpu_short", 0},
	} {
		answer, err := f.SubmitTask(f.ctx, tc.req)
		if err != nil || !answer.GetSuccess() {
			t.Errorf("%s: %v, %v", name, answer, err)
			continue
		}
		s := f.lookup(answer.GetTaskId()).Spec
		if s.Class != tc.class || s.Timeout != tc.timeout || s.ClassTimeout != (tc.timeout > 0) {
			t.Errorf("%s: class %s, timeout %s, of the class: %t", name, s.Class, s.Timeout, s.ClassTimeout)
		}
		if typed := slices.Equal(s.Argv, []string{"python", "sweep.py"}); typed != !strings.Contains(name, "a command") || typed && s.Dir != "/srv" {
			t.Errorf("%s: became %+v", name, s)
		}
	}
}

// TestSubmitRefusesWhatCannotRunYet: understood, and refused with the reason.
func TestSubmitRefusesWhatCannotRunYet(t *testing.T) {
	f := setup(t, withTypes)
	for payload, tc := range map[string]struct {
		code  task.Code
		words string
	}{
		`{"type":"broken"}`:                                          {task.CodeInvalid, `"nope"`},
		`{"type":"gone"}`:                                            {task.CodeInvalid, "known are broken, sweep, torch"},
		`{"command":"x","gpus":2,"mig":"1g.10gb"}`:                   {task.CodeInvalid, "only one MIG instance"},
		`{"command":"x","gpus":2,"gpu_memory":"1GB"}`:                {task.CodeInvalid, "memory is given of one GPU"},
		`{"execution":{"command":["x"],"env":{"DSPY_TASK_ID":"7"}}}`: {task.CodeInvalid, "set by the scheduler"},
		`{"execution":{"command":["x"],"a":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}}`: {task.CodeInvalid, "nested"},
	} {
		answer, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Spec: &pb.TaskSpec{PayloadJson: []byte(payload)}})
		if err != nil || answer.GetSuccess() || answer.GetCode() != tc.code.String() || !strings.Contains(answer.GetError(), tc.words) {
			t.Errorf("%s: %v, %v; want %s and a word about %q", payload, answer, err, tc.code, tc.words)
		}
	}
	if n := f.q.Counts().Total(task.States...); n != 0 {
		t.Errorf("%d refused tasks are in the queue", n)
	}
}

// TestSubmitByExecution sends the object as gRPC clients do, as text.
func TestSubmitByExecution(t *testing.T) {
	f := setup(t)
	answer, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{WorkflowId: "mine", Payload: map[string]string{
		"execution": `{"command":["python","x.py"],"env":{"B":"2","A":"1"},"resources":{"cpu_millicores":"500"},"timeout_seconds":2.5}`,
		"tenant":    "lab", "workflow_id": "theirs",
	}})
	if err != nil || !answer.GetSuccess() {
		t.Fatal(answer, err)
	}
	s := f.lookup(answer.GetTaskId()).Spec
	if !slices.Equal(s.Argv, []string{"python", "x.py"}) || !slices.Equal(s.Env, []string{"A=1", "B=2"}) || s.Dir != "/w" ||
		s.Resources.CPUMilli != 500 || s.Timeout != 2500*time.Millisecond || s.Tenant != "lab" || s.WorkflowID != "mine" {
		t.Errorf("it became %+v", s)
	}
}
