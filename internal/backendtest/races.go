package backendtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// stopAfterEnd stores the stop before the report of the end has come: the
// program's own end wins, since no signal reached it.
func stopAfterEnd(t *testing.T, e *engine) {
	g := newGate(t)
	e.run(1, g.spec(1, ":", 5))
	e.awaitRunning(1)
	e.leave()
	e.stopping(1)
	g.open(t)
	g.awaitDone(e, 1)
	e.restart()
	e.cancel(1)
	if o := e.want(e.end(1), task.Failed); o.ExitCode != 5 && e.place.Can.ExitCodes {
		t.Fatalf("outcome %+v", o)
	}
	e.wantOneEnd(e.get(1).Ref())
}

// raceTasks is how many programs are stopped at about the time they end, and raceWidth how
// many of them are under way at a time.
const raceTasks, raceWidth = 40, 8

// stopRaces stops programs that are about to end. Each ends once: by itself, with
// its exit code, or because it was cancelled.
func stopRaces(t *testing.T, e *engine) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	ends := map[task.State]int{}
	stop := func(seq task.Seq) {
		e.cancel(seq)
		if rng.IntN(2) > 0 {
			e.cancel(seq)
		}
	}
	var begin []task.Seq // that are stopped as soon as they run
	for seq := task.Seq(1); seq <= raceTasks; seq++ {
		e.run(seq, sh(fmt.Sprintf("sleep 0.0%02d; exit 7", rng.IntN(30))))
		if rng.IntN(4) == 0 {
			stop(seq)
			continue
		}
		begin = append(begin, seq)
		for len(begin) == raceWidth || len(begin) > 0 && seq == raceTasks {
			running := e.awaitOneRunning(begin)
			stop(running)
			begin = slices.DeleteFunc(begin, func(s task.Seq) bool { return s == running })
		}
	}
	for seq := task.Seq(1); seq <= raceTasks; seq++ {
		tk := e.end(seq)
		ends[tk.State()]++
		if o := tk.Status().Outcome; tk.State() != task.Cancelled && (tk.State() != task.Failed || o.ExitCode != 7 && e.place.Can.ExitCodes) {
			t.Errorf("task %d is %s: %+v", seq, tk.State(), o)
		}
		e.wantOneEnd(tk.Ref())
	}
	t.Logf("ends: %v", ends)
}
