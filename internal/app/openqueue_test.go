package app

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/queue"
)

// onLine calls a function for each line of a log.
type onLine func(line []byte)

func (f onLine) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

// TestDaemonWaitsForACommand: a command that has the queue for longer than an opening waits is
// no obstacle for a daemon, which starts when that lets go of it.
func TestDaemonWaitsForACommand(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	command, err := queue.Open(t.Context(), queue.Options{Dir: o.Config.QueueDir, Role: queue.RoleCommand, Program: ownProgram})
	if err != nil {
		t.Fatal(err)
	}
	waited := false
	o.LogEcho = onLine(func(line []byte) {
		if bytes.Contains(line, []byte("waiting for a command")) {
			waited = true
			if err := command.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ready := false
	o.Ready = func(string) { ready = true; cancel() }
	if err := Run(ctx, o); err != nil {
		t.Fatal(err)
	}
	if !ready || !waited {
		t.Errorf("ready: %v, it waited: %v", ready, waited)
	}
}
