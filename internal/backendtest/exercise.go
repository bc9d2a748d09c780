package backendtest

import (
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Exercise holds a backend to what the engine expects of it.
func Exercise(t *testing.T, factory Factory) {
	place := factory(t)
	can := place.Can
	for _, c := range []struct {
		name  string
		needs bool
		test  func(t *testing.T, e *engine)
	}{
		{"success", true, success},
		{"failure", can.ExitCodes, failure},
		{"signal", can.Signals, signal},
		{"missing command", can.PreExec, missingCommand},
		{"missing directory", can.PreExec, missingDirectory},
		{"environment", true, environment},
		{"payload", can.Payload, payload},
		{"result file", can.ResultFile, resultFile},
		{"bad result", can.ResultFile, badResult},
		{"marker", can.Marker, marked},
		{"output is complete", true, output},
		{"time limit", can.TimeLimit, timeLimit},
		{"cancel before begin", true, cancelBeforeBegin},
		{"cancel while running", true, cancelRunning},
		{"cancel of a stubborn program", true, cancelStubborn},
		{"cancel of what escaped", can.HostProcess, cancelEscaped},
		{"leftovers end before the end is told", can.HostProcess, leftovers},
		{"an end before the stop stands", true, stopAfterEnd},
		{"stops race with ends", true, stopRaces},
		{"twice is once", true, twice},
		{"each step twice", true, stepsTwice},
		{"daemon gone while running", true, daemonGone},
		{"daemon gone and the end with it", true, endedMeanwhile},
		{"daemon gone and its store behind", true, adoptRunning},
		{"daemon gone, its store behind, and the end with it", true, adoptEnded},
		{"time limit over a restart", can.TimeLimit, timeLimitOverRestart},
		{"killed with what outlives the daemon", place.Crash != nil, crash},
		{"cancel goes on after the daemon was gone", true, cancelOverRestart},
		{"forget", true, forget},
		{"unknown attempts have vanished", true, unknown},
		{"many at once", true, many},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !c.needs {
				t.Skip("this backend does not claim to do that")
			}
			t.Parallel()
			c.test(t, newEngine(t, factory(t)))
		})
	}
}

func argv(words ...string) task.Spec { return task.Spec{Argv: words} }

func sh(script string) task.Spec { return argv("/bin/sh", "-c", script) }
