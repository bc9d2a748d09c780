package api_test

import (
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// TestListingSaysWhatIsWaitedFor: what can never start says so, and the first of each kind
// why it has not yet.
func TestListingSaysWhatIsWaitedFor(t *testing.T) {
	waits := map[task.Seq]string{}
	f := setup(t, func(o *api.Options) {
		of, _ := o.Mover.(mover)
		of.waits = waits
		o.Mover = of
		o.Machine = api.Machine{CPUMilli: 2000}
	})
	for id, milli := range map[string]int64{"vast": 64000, "next": 1000, "other": 1000} {
		answer, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Id: id, Spec: &pb.TaskSpec{Argv: []string{"x"}, Resources: &pb.Resources{CpuMillicores: milli}}})
		if err != nil || !answer.GetSuccess() {
			t.Fatalf("%s: %v, %v", id, answer, err)
		}
	}
	waits[f.lookup("next").Seq] = "2 of 2 CPUs are in use"
	want := map[string]string{"vast": "it needs 64 CPUs; this machine has 2 for tasks, so it does not start here", "next": "2 of 2 CPUs are in use", "other": ""}
	list, err := f.ListTasks(f.ctx, &pb.ListTasksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	some, err := f.GetTasks(f.ctx, &pb.GetTasksRequest{TaskIds: []string{"vast", "next", "other"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range append(list.GetTasks(), some.GetTasks()...) {
		if got.GetDetail() != want[got.GetId()] {
			t.Errorf("%s: %q", got.GetId(), got.GetDetail())
		}
	}
	if len(list.GetTasks()) != 3 {
		t.Errorf("listed %d", len(list.GetTasks()))
	}
}
