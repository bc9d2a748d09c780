package backendtest

import (
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// The states in which a killed daemon may have left a task in its store while the
// program ran on.
const (
	storedAssigned task.Seq = 1 + iota
	storedStarting
	storedRunning
	storedStopping // and the stop was not sent
)

// rewind runs a program for each of the states, takes the daemon away, and has the
// store know no more than that state.
func rewind(e *engine, g gate, last string, code int) {
	e.t.Helper()
	before := map[task.Seq]task.Task{}
	for seq := storedAssigned; seq <= storedStopping; seq++ {
		before[seq] = e.run(seq, g.spec(seq, last, code))
	}
	for seq := storedAssigned; seq <= storedStopping; seq++ {
		e.awaitRunning(seq)
	}
	e.leave()
	launched := task.Event{Kind: task.EventLaunched, At: task.At(time.Now()), Handle: e.get(storedStarting).Status().Handle}
	e.put(before[storedAssigned])
	e.put(e.apply(before[storedStarting], launched))
	e.stopping(storedStopping)
}

// adoptRunning begins a daemon whose store is behind: every program is found again,
// whatever the store knows of it, and runs once.
func adoptRunning(t *testing.T, e *engine) {
	g := newGate(t)
	rewind(e, g, ":", 5)
	e.restart()
	e.launch(e.get(storedAssigned))
	e.cancel(storedStopping)
	e.want(e.end(storedStopping), task.Cancelled)
	g.open(t)
	for seq := storedAssigned; seq < storedStopping; seq++ {
		if o := e.want(e.end(seq), task.Failed); o.ExitCode != 5 && e.place.Can.ExitCodes {
			t.Errorf("task %d: outcome %+v", seq, o)
		}
	}
	for seq := storedAssigned; seq <= storedStopping; seq++ {
		e.wantOneEnd(e.get(seq).Ref())
		g.wantOneRun(t, seq)
	}
}

// adoptEnded is the same for programs that have ended meanwhile: their ends are
// told, with what they gave back, and a stop that was only stored changes nothing.
func adoptEnded(t *testing.T, e *engine) {
	g := newGate(t)
	rewind(e, g, `[ -z "$DSPY_RESULT_FILE" ] || echo '{"n": 1}' > "$DSPY_RESULT_FILE"`, 0)
	g.open(t)
	for seq := storedAssigned; seq <= storedStopping; seq++ {
		g.awaitDone(e, seq)
	}
	e.restart()
	e.launch(e.get(storedAssigned))
	e.cancel(storedStopping)
	for seq := storedAssigned; seq <= storedStopping; seq++ {
		e.want(e.end(seq), task.Succeeded)
		if got := strings.TrimSpace(e.result(seq)); got != `{"n": 1}` && e.place.Can.ResultFile {
			t.Errorf("task %d: result %q", seq, got)
		}
		e.wantOneEnd(e.get(seq).Ref())
		g.wantOneRun(t, seq)
	}
}

// timeLimitOverRestart has the limit strike while there is no daemon, or after.
func timeLimitOverRestart(t *testing.T, e *engine) {
	s := sh("sleep 100")
	s.Timeout = 500 * time.Millisecond
	e.run(1, s)
	e.awaitRunning(1)
	e.restart()
	if o := e.want(e.end(1), task.Failed); o.Class != task.Timeout {
		t.Fatalf("outcome %+v", o)
	}
}

// crash kills what the backend has beside the daemon. Programs go on; how they end
// is told, or that nobody saw it. None is begun again.
func crash(t *testing.T, e *engine) {
	g := newGate(t)
	for seq := task.Seq(1); seq <= 2; seq++ {
		e.run(seq, g.spec(seq, ":", 5))
		e.awaitRunning(seq)
	}
	e.place.Crash(t)
	e.cancel(2)
	e.want(e.end(2), task.Cancelled)
	g.open(t)
	switch tk := e.end(1); tk.State() {
	case task.Failed:
		if o := tk.Status().Outcome; o.ExitCode != 5 && e.place.Can.ExitCodes {
			t.Errorf("outcome %+v", o)
		}
	default:
		if o := e.want(tk, task.Lost); o.Class != task.Vanished || o.Message == "" {
			t.Errorf("outcome %+v", o)
		}
	}
	for seq := task.Seq(1); seq <= 2; seq++ {
		e.wantOneEnd(e.get(seq).Ref())
		g.wantOneRun(t, seq)
	}
}
