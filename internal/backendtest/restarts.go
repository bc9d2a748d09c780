package backendtest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

func daemonGone(t *testing.T, e *engine) {
	gate := filepath.Join(t.TempDir(), "gate")
	e.run(1, sh("while [ ! -e "+gate+" ]; do sleep 0.01; done; echo done"))
	e.awaitRunning(1)
	e.restart()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e.want(e.end(1), task.Succeeded)
	if got := e.place.Output(t, task.Ref{Seq: 1, Attempt: 1}); got != "done\n" {
		t.Fatalf("output %q", got)
	}
}

func endedMeanwhile(t *testing.T, e *engine) {
	dir := t.TempDir()
	gate, done := filepath.Join(dir, "gate"), filepath.Join(dir, "done")
	e.run(1, sh("while [ ! -e "+gate+" ]; do sleep 0.01; done; echo > "+done+"; exit 5"))
	e.awaitRunning(1)
	e.leave()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	awaitFile(t, done)
	e.restart()
	if o := e.want(e.end(1), task.Failed); o.ExitCode != 5 && e.place.Can.ExitCodes {
		t.Fatalf("outcome %+v", o)
	}
}

func cancelOverRestart(_ *testing.T, e *engine) {
	s := sh(`trap "" TERM; echo ready; while :; do sleep 1; done`)
	s.Grace = time.Second
	e.run(1, s)
	e.awaitOutput(1, "ready\n")
	e.awaitRunning(1)
	e.cancel(1)
	e.restart()
	e.cancel(1)
	e.want(e.end(1), task.Cancelled)
}

func unknown(t *testing.T, e *engine) {
	e.leave()
	for seq := task.Seq(1); seq <= 3; seq++ {
		tk := e.assign(seq, sh("exit 0"))
		now := task.At(time.Now())
		if seq >= 2 {
			tk = e.apply(tk, task.Event{Kind: task.EventLaunched, At: now})
		}
		if seq >= 3 {
			tk = e.apply(tk, task.Event{Kind: task.EventStarted, At: now})
		}
		e.put(tk)
	}
	e.restart()
	for seq := task.Seq(2); seq <= 3; seq++ {
		if o := e.want(e.end(seq), task.Lost); o.Class != task.Vanished || o.Message == "" {
			t.Fatalf("outcome %+v", o)
		}
	}
	// The one that was only Assigned is the engine's to hand over again.
	if s := e.get(1).State(); s != task.Assigned {
		t.Fatalf("an assigned task is %s", s)
	}
	e.launch(e.get(1))
	e.want(e.end(1), task.Succeeded)
}

func many(t *testing.T, e *engine) {
	const n = 100
	tasks := make([]task.Task, n)
	for i := range tasks {
		tasks[i] = e.assign(task.Seq(i+1), sh(fmt.Sprintf("echo %d; exit %d", i+1, i%2)))
	}
	e.launch(tasks...)
	e.restart() // in the middle of it
	for _, tk := range tasks {
		if e.get(tk.Seq).State() == task.Assigned {
			e.launch(e.get(tk.Seq))
		}
	}
	for i, tk := range tasks {
		want := task.Succeeded
		if i%2 == 1 {
			want = task.Failed
		}
		e.want(e.end(tk.Seq), want)
		if got := e.place.Output(t, tk.Ref()); got != fmt.Sprintf("%d\n", i+1) {
			t.Fatalf("output of task %d: %q", tk.Seq, got)
		}
	}
}
