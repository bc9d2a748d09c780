package backendtest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Exercise holds a backend to what the engine expects of it.
func Exercise(t *testing.T, factory Factory) {
	can := factory(t).Can
	for _, c := range []struct {
		name  string
		needs bool
		test  func(t *testing.T, e *engine)
	}{
		{"success", true, success},
		{"failure", can.ExitFacts, failure},
		{"signal", can.ExitFacts, signal},
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
		{"a result before the stop stands", true, resultBeforeStop},
		{"twice is once", true, twice},
		{"daemon gone while running", true, daemonGone},
		{"daemon gone and the end with it", true, endedMeanwhile},
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

func payload(t *testing.T, e *engine) {
	s := sh(`cat "$DSPY_PAYLOAD_FILE"`)
	s.Payload = json.RawMessage(`{"x": "$(touch /tmp/no)"}`)
	e.run(1, s)
	e.run(2, sh(`echo "${DSPY_PAYLOAD_FILE-none}"`))
	e.want(e.end(1), task.Succeeded)
	e.want(e.end(2), task.Succeeded)
	if got := e.place.Output(t, task.Ref{Seq: 1, Attempt: 1}); got != string(s.Payload) {
		t.Fatalf("payload %q", got)
	}
	if got := e.place.Output(t, task.Ref{Seq: 2, Attempt: 1}); got != "none\n" {
		t.Fatalf("a task without a payload has %q", got)
	}
}

func resultFile(t *testing.T, e *engine) {
	e.run(1, sh(`echo '{"loss": 0.5}' > "$DSPY_RESULT_FILE"`))
	e.run(2, sh(`echo '{"partial": true}' > "$DSPY_RESULT_FILE"; exit 1`))
	e.want(e.end(1), task.Succeeded)
	e.want(e.end(2), task.Failed)
	if got := strings.TrimSpace(e.result(1)); got != `{"loss": 0.5}` {
		t.Fatalf("result %q", got)
	}
	if got := strings.TrimSpace(e.result(2)); got != `{"partial": true}` {
		t.Fatalf("result of a failure %q", got)
	}
}

func badResult(t *testing.T, e *engine) {
	for i, script := range []string{
		`echo '[1]' > "$DSPY_RESULT_FILE"`,
		`echo '{' > "$DSPY_RESULT_FILE"`,
		`ln -s /etc/passwd "$DSPY_RESULT_FILE"`,
	} {
		seq := task.Seq(i + 1)
		e.run(seq, sh(script))
		if o := e.want(e.end(seq), task.Failed); o.Class != task.UserError || !strings.Contains(o.Message, "result") {
			t.Errorf("%s: outcome %+v", script, o)
		}
	}
}

func marked(t *testing.T, e *engine) {
	e.run(1, sh(`echo '__DSPY_RESULT__:{"n": 1}'; echo 'x __DSPY_RESULT__:{"n": 0}'; echo '__DSPY_RESULT__:{"n": 2}'; echo bye`))
	e.want(e.end(1), task.Succeeded)
	if got := e.result(1); got != `{"n": 2}` {
		t.Fatalf("result %q", got)
	}
}

func output(t *testing.T, e *engine) {
	e.run(1, sh(`i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo error >&2`))
	e.want(e.end(1), task.Succeeded)
	var want strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	want.WriteString("error\n")
	if got := e.place.Output(t, task.Ref{Seq: 1, Attempt: 1}); got != want.String() {
		t.Fatalf("%d bytes of output, want %d", len(got), want.Len())
	}
}

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
	e.cancel() // it never came to be handed over
	e.want(e.end(1), task.Cancelled)
	e.launch(e.get(1)) // a hand-over that comes late starts nothing
	e.cancel()
	e.run(2, sh("exit 0"))
	e.want(e.end(2), task.Succeeded)
	if out := e.place.Output(e.t, task.Ref{Seq: 1, Attempt: 1}); out != "" {
		e.t.Fatalf("it ran: %q", out)
	}
}

func cancelRunning(_ *testing.T, e *engine) {
	e.run(1, sh("sleep 100"))
	e.awaitRunning()
	e.cancel()
	e.cancel()
	e.want(e.end(1), task.Cancelled)
}

func cancelStubborn(_ *testing.T, e *engine) {
	s := sh(`trap "" TERM; echo ready; while :; do sleep 1; done`)
	s.Grace = 300 * time.Millisecond
	e.run(1, s)
	e.awaitRunning()
	e.awaitOutput(1, "ready\n")
	e.cancel()
	e.want(e.end(1), task.Cancelled)
}

// escape leaves a process behind that is in a session of its own and a child of
// nobody who is left, and writes its pid to a file.
const escape = `setsid sh -c 'sh -c "echo \$\$ > %s.new; mv %s.new %s; exec sleep 1000" & exit 0'`

func escapeTo(t *testing.T) (script, pidFile string) {
	pidFile = filepath.Join(t.TempDir(), "pid")
	return fmt.Sprintf(escape, pidFile, pidFile, pidFile) + fmt.Sprintf("; while [ ! -e %s ]; do sleep 0.01; done; echo ready", pidFile), pidFile
}

func cancelEscaped(t *testing.T, e *engine) {
	script, pidFile := escapeTo(t)
	e.run(1, sh(script+"; sleep 1000"))
	e.awaitOutput(1, "ready\n")
	e.cancel()
	e.want(e.end(1), task.Cancelled)
	wantGone(t, pidFile)
}

func leftovers(t *testing.T, e *engine) {
	script, pidFile := escapeTo(t)
	e.run(1, sh(script))
	e.want(e.end(1), task.Succeeded)
	wantGone(t, pidFile)
}

func wantGone(t *testing.T, pidFile string) {
	t.Helper()
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid := strings.TrimSpace(string(b))
	stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Fatalf("process %s is still there: %s", pid, stat)
	}
}

func resultBeforeStop(_ *testing.T, e *engine) {
	e.run(1, sh("exit 0"))
	// Stopping is stored before the report of the end is: the program's own end
	// has to win, since no signal reached it.
	e.end(1)
	t := e.get(1)
	if err := e.backend.Stop(e.t.Context(), t); err != nil {
		e.t.Fatal(err)
	}
	e.run(2, sh("exit 0"))
	e.end(2)
	e.want(e.get(1), task.Succeeded)
}

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
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := e.ends[tk.Ref()]; n != 1 {
		t.Fatalf("it ended %d times", n)
	}
}

func daemonGone(t *testing.T, e *engine) {
	gate := filepath.Join(t.TempDir(), "gate")
	e.run(1, sh("while [ ! -e "+gate+" ]; do sleep 0.01; done; echo done"))
	e.awaitRunning()
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
	e.awaitRunning()
	e.leave()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	awaitFile(t, done)
	e.restart()
	if o := e.want(e.end(1), task.Failed); o.ExitCode != 5 && e.place.Can.ExitFacts {
		t.Fatalf("outcome %+v", o)
	}
}

func cancelOverRestart(_ *testing.T, e *engine) {
	s := sh(`trap "" TERM; echo ready; while :; do sleep 1; done`)
	s.Grace = time.Second
	e.run(1, s)
	e.awaitOutput(1, "ready\n")
	e.awaitRunning()
	e.cancel()
	e.restart()
	e.cancel()
	e.want(e.end(1), task.Cancelled)
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
		e.mu.Lock()
		e.tasks[seq] = tk
		e.mu.Unlock()
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
