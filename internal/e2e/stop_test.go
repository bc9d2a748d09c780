package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// TestStopLeavesNothing: after a storm in which the daemon was killed again and
// again, "stop" leaves no daemon and no supervisor, and nothing is forgotten.
func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.mustStart()
	tasks := rounds(100, 1000)
	for i := range 4 {
		var batch []*pb.SubmitTaskRequest
		for n := range tasks / 4 {
			batch = append(batch, submission(fmt.Sprintf("t%d-%d", i, n), "true"))
		}
		w.submit(batch...)
		w.killDaemon()
		w.mustStart()
	}
	w.settle(2 * time.Minute)
	w.dspyOK("stop")
	<-w.daemon().dead
	w.eventually(10*time.Second, "the supervisor leaves", func() bool { return len(w.supervisor()) == 0 })
	w.mustStart()
	for id, info := range w.all() {
		if info.GetState() != "succeeded" {
			t.Errorf("%s %s: %s", id, info.GetState(), info.GetOutcome().GetMessage())
		}
	}
}

// TestSupervisorStaysForTasks: "stop" leaves the supervisor as long as a task
// runs, and what it saw is told to the next daemon. It goes with that one.
func TestSupervisorStaysForTasks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.mustStart()
	gate, pidFile := filepath.Join(w.runtime, "gate"), filepath.Join(w.runtime, "pid")
	w.submit(submission("a", `echo $$ > `+pidFile+`; while [ ! -e `+gate+` ]; do sleep 0.02; done; exit 7`))
	pid := w.pidFrom(pidFile)
	w.dspyOK("stop")
	<-w.daemon().dead
	if !alive(pid) || len(w.supervisor()) != 1 {
		t.Fatalf("the task runs: %v; supervisors: %v", alive(pid), w.supervisor())
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.eventually(time.Minute, "the end of the program", func() bool { return !alive(pid) })
	w.mustStart()
	if info := w.await("a"); info.GetState() != "failed" || info.GetOutcome().GetExitCode() != 7 {
		t.Errorf("a %s: %v", info.GetState(), info.GetOutcome())
	}
	w.dspyOK("stop")
	<-w.daemon().dead
	w.eventually(10*time.Second, "the supervisor leaves", func() bool { return len(w.supervisor()) == 0 })
}
