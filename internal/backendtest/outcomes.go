package backendtest

import (
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

func success(_ *testing.T, e *engine) {
	e.run(1, sh("exit 0"))
	t := e.end(1)
	o := e.want(t, task.Succeeded)
	st := t.Status()
	if st.StartedAt == 0 || st.EndedAt < st.StartedAt || len(st.Handle) == 0 && st.EndedAt == 0 || o.Node == "" {
		e.t.Fatalf("times or node are missing: %+v", st)
	}
}

func failure(_ *testing.T, e *engine) {
	e.run(1, sh("exit 3"))
	if o := e.want(e.end(1), task.Failed); o.ExitCode != 3 || o.Class != task.UserError {
		e.t.Fatalf("outcome %+v", o)
	}
}

func signal(_ *testing.T, e *engine) {
	e.run(1, sh("kill -USR1 $$"))
	if o := e.want(e.end(1), task.Failed); o.Signal != 10 || o.Class != task.UserError {
		e.t.Fatalf("outcome %+v", o)
	}
}

func missingCommand(_ *testing.T, e *engine) {
	e.run(1, argv("no-such-command-here"))
	o := e.want(e.end(1), task.Failed)
	if o.ExitCode != 127 || o.Class != task.UserError || !strings.Contains(o.Message, "no-such-command-here") {
		e.t.Fatalf("outcome %+v", o)
	}
}

func missingDirectory(_ *testing.T, e *engine) {
	s := sh("exit 0")
	s.Dir = "/no/such/directory"
	e.run(1, s)
	if o := e.want(e.end(1), task.Failed); o.Class != task.UserError || !strings.Contains(o.Message, s.Dir) {
		e.t.Fatalf("outcome %+v", o)
	}
}

func environment(t *testing.T, e *engine) {
	s := sh(`echo "$DSPY_TASK_ID $DSPY_TASK_CLASS $DSPY_TASK_ATTEMPT $MINE"; read line || echo no input; pwd`)
	s.Env = []string{"MINE=a b  c", "PATH=/usr/bin:/bin"}
	s.Dir = "/usr"
	e.run(1, s)
	e.want(e.end(1), task.Succeeded)
	if got, want := e.place.Output(t, task.Ref{Seq: 1, Attempt: 1}), "task cpu_short 1 a b  c\nno input\n/usr\n"; got != want {
		t.Fatalf("output %q, want %q", got, want)
	}
}
