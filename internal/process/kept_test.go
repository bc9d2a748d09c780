package process

import (
	"context"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestWaitingWithTheFormerSupervisor: an attempt that a daemon before us had handed over
// waits with a supervisor, which says so after the engine has handed it over once more.
// Should that supervisor be killed, nobody but us has it.
func TestWaitingWithTheFormerSupervisor(t *testing.T) {
	t.Parallel()
	b, err := New(newPlace(t).options("q"))
	must(t, err)
	tk := assigned(t, 1, sh("true"))
	b.learn([]task.Task{tk})
	must(t, b.Launch(context.Background(), []task.Task{tk}))
	queued := &supervisorpb.Reports{Reports: []*supervisorpb.Report{{Name: nameOf(tk.Ref()), Phase: supervisorpb.Report_PHASE_QUEUED}}}
	b.takeAndTell(&session{}, queued, snapshot{}, func([]task.Change) {})
	var starts int
	for _, m := range b.adopt(&session{}) { // the next supervisor's connection
		starts += len(m.GetStart().GetStarts())
	}
	if starts != 1 {
		t.Errorf("the next supervisor is handed %d starts", starts)
	}
	// Once it runs, nothing is handed over any more.
	runs := &supervisorpb.Reports{Reports: []*supervisorpb.Report{{Name: nameOf(tk.Ref()), Phase: supervisorpb.Report_PHASE_RUNNING, Pid: 1, StartTicks: 1}}}
	b.takeAndTell(&session{}, runs, nil, func([]task.Change) {})
	for _, m := range b.adopt(&session{}) {
		if n := len(m.GetStart().GetStarts()); n > 0 {
			t.Errorf("the next supervisor is handed %d starts of what runs", n)
		}
	}
}
