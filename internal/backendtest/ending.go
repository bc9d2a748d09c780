package backendtest

import (
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

func timeLimit(t *testing.T, e *engine) {
	s := sh("sleep 100")
	s.Timeout = 200 * time.Millisecond
	begin := time.Now()
	e.run(1, s)
	if o := e.want(e.end(1), task.Failed); o.Class != task.Timeout {
		t.Fatalf("outcome %+v", o)
	}
	if took := time.Since(begin); took < s.Timeout || took > patience {
		t.Fatalf("it took %s", took)
	}
}

func cancelBeforeBegin(_ *testing.T, e *engine) {
	e.assign(1, sh("exit 0"))
	e.cancel(1) // it never came to be handed over
	e.want(e.end(1), task.Cancelled)
	e.launch(e.get(1)) // a hand-over that comes late starts nothing
	e.cancel(1)
	e.run(2, sh("exit 0"))
	e.want(e.end(2), task.Succeeded)
	if out := e.place.Output(e.t, task.Ref{Seq: 1, Attempt: 1}); out != "" {
		e.t.Fatalf("it ran: %q", out)
	}
}

func cancelRunning(_ *testing.T, e *engine) {
	e.run(1, sh("sleep 100"))
	e.awaitRunning(1)
	e.cancel(1)
	e.cancel(1)
	e.want(e.end(1), task.Cancelled)
}

func cancelStubborn(_ *testing.T, e *engine) {
	s := sh(`trap "" TERM; echo ready; while :; do sleep 1; done`)
	s.Grace = 300 * time.Millisecond
	e.run(1, s)
	e.awaitRunning(1)
	e.awaitOutput(1, "ready\n")
	e.cancel(1)
	e.want(e.end(1), task.Cancelled)
}
