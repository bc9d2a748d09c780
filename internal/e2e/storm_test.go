package e2e

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// storm runs tasks while kill is called at random moments, then checks:
//  1. every accepted task has ended, once;
//  2. no task ran twice: each appends its id to a file;
//  3. what succeeded ran, and its result is there;
//  4. what is lost says so, and only if losing is allowed.
func storm(t *testing.T, tasks, kills int, mayLose bool, kill func(*world)) {
	w := newWorld(t, binaries.plain)
	w.mustStart()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))

	var wg sync.WaitGroup
	wg.Go(func() { // submissions come in all the while, in batches of odd sizes
		line := `echo "$DSPY_TASK_ID" >> ` + w.workspace + `/ran; sleep 0.0$(($$ % 9))`
		for sent := 0; sent < tasks; {
			n := min(1+rnd.IntN(40), tasks-sent)
			var batch []*pb.SubmitTaskRequest
			for i := range n {
				batch = append(batch, submission(fmt.Sprintf("t%d", sent+i), line))
			}
			if err := w.trySubmit(batch...); err != nil {
				t.Error(err)
				return
			}
			sent += n
		}
	})
	killing := rand.New(rand.NewPCG(seed, 2))
	for range kills {
		pauseFor(time.Duration(20+killing.IntN(400)) * time.Millisecond)
		kill(w)
	}
	wg.Wait()
	all := w.settle(3 * time.Minute)
	if len(all) != tasks {
		t.Errorf("%d tasks are known, %d were accepted", len(all), tasks)
	}
	ran := w.runs()
	lost := 0
	for id, info := range all {
		switch {
		case ran[id] > 1:
			t.Errorf("%s ran %d times", id, ran[id])
		case info.GetState() == "succeeded" && ran[id] != 1:
			t.Errorf("%s succeeded but did not run", id)
		case info.GetState() == "lost":
			lost++
			if info.GetOutcome().GetMessage() == "" || info.GetOutcome().GetFailureClass() != "vanished" {
				t.Errorf("%s is lost and does not say why: %v", id, info.GetOutcome())
			}
		case info.GetState() != "succeeded":
			t.Errorf("%s ended as %s: %s", id, info.GetState(), info.GetOutcome().GetMessage())
		}
	}
	if lost > 0 && !mayLose {
		t.Errorf("%d tasks are lost although the supervisor lived", lost)
	}
	t.Logf("%d tasks, %d kills, %d lost", tasks, kills, lost)
	w.eventually(10*time.Second, "no process of a task is left", func() bool { return len(w.tasks()) == 0 })
}

func TestStormDaemonKilled(t *testing.T) {
	t.Parallel()
	storm(t, rounds(120, 500), rounds(4, 20), false, func(w *world) {
		w.killDaemon()
		w.mustStart()
	})
}

func TestStormSupervisorKilled(t *testing.T) {
	t.Parallel()
	storm(t, rounds(120, 500), rounds(4, 20), true, func(w *world) { w.killSupervisor() })
}

func TestStormBothKilled(t *testing.T) {
	t.Parallel()
	storm(t, rounds(120, 500), rounds(4, 20), true, func(w *world) {
		w.killDaemon()
		w.killSupervisor()
		w.mustStart()
	})
}
