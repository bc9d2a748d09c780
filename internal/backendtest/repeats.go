package backendtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

func twice(t *testing.T, e *engine) {
	file := filepath.Join(t.TempDir(), "runs")
	s := sh("echo x >> " + file)
	tk := e.run(1, s)
	e.launch(tk, tk)
	e.end(1)
	e.launch(tk)
	e.run(2, sh("exit 0"))
	e.end(2)
	e.restart()
	e.launch(tk)
	e.run(3, sh("exit 0"))
	e.end(3)
	if b, err := os.ReadFile(file); err != nil || string(b) != "x\n" {
		t.Fatalf("it ran so often: %q, %v", b, err)
	}
	e.wantOneEnd(tk.Ref())
}

func forget(_ *testing.T, e *engine) {
	tk := e.run(1, sh("exit 0"))
	e.end(1)
	e.forget(tk.Ref())
	e.forget(tk.Ref(), task.Ref{Seq: 99, Attempt: 1})
	e.restart()
	e.run(2, sh("exit 0"))
	e.want(e.end(2), task.Succeeded)
}

// stepsTwice takes each step twice, and the stop once more after the end: what is
// done already is done.
func stepsTwice(_ *testing.T, e *engine) {
	tk := e.run(1, sh("sleep 1000"))
	e.launch(tk)
	e.awaitRunning(1)
	e.cancel(1)
	e.cancel(1)
	e.want(e.end(1), task.Cancelled)
	e.cancel(1)
	e.restart()
	e.cancel(1)
	e.run(2, sh("exit 0"))
	e.want(e.end(2), task.Succeeded)
	e.forget(tk.Ref())
	e.forget(tk.Ref())
	e.run(3, sh("exit 0"))
	e.want(e.end(3), task.Succeeded)
	e.wantOneEnd(tk.Ref())
	e.want(e.get(1), task.Cancelled)
}
