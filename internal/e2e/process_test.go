package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/host"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// task returns what is known about a task.
func (w *world) task(id string) *pb.TaskInfo {
	w.Helper()
	var t *pb.TaskInfo
	w.persistently(func(ctx context.Context, c *api.Client) (err error) {
		t, err = c.GetTask(ctx, &pb.GetTaskRequest{TaskId: id})
		return err
	})
	return t
}

// await waits for the end of a task.
func (w *world) await(id string) *pb.TaskInfo {
	w.Helper()
	w.eventually(time.Minute, "the end of "+id, func() bool {
		switch w.task(id).GetState() {
		case "succeeded", "failed", "cancelled", "lost":
			return true
		}
		return false
	})
	return w.task(id)
}

// pidFrom waits for a file with a pid in it.
func (w *world) pidFrom(path string) int {
	w.Helper()
	var pid int
	w.eventually(time.Minute, "a pid in "+path, func() bool {
		b, err := os.ReadFile(path)
		if err != nil || !bytes.HasSuffix(b, []byte("\n")) {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		return err == nil
	})
	return pid
}

// alive says whether a process runs, and is no zombie.
func alive(pid int) bool {
	st, err := host.ReadStat(pid)
	return err == nil && st.State != 'Z' && st.State != 'X'
}

// hidden is a shell line that leaves a process behind which has a session of its
// own and no parent of ours, ignores SIGTERM, and writes its pid to a file.
func hidden(pidFile string) string {
	return `setsid sh -c 'trap "" TERM; echo $$ > ` + pidFile + `.new; mv ` + pidFile + `.new ` + pidFile + `; while :; do sleep 1; done' & disown 2>/dev/null; `
}

// TestNothingIsLeft: what a task has started is gone when its end is told, also
// what left its session and forked twice.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.mustStart()
	for _, how := range []string{"cancel", "limit", "exit"} {
		pidFile := filepath.Join(w.workspace, how+".pid")
		line := `(` + hidden(pidFile) + `) & while [ ! -e ` + pidFile + ` ]; do sleep 0.01; done; `
		if how != "exit" {
			line += `trap "" TERM; while :; do sleep 1; done`
		}
		w.submit(submission(how, line, func(r *pb.SubmitTaskRequest) {
			r.Spec.GraceMs = 200
			if how == "limit" {
				r.Spec.TimeoutMs = 3000
			}
		}))
		pid := w.pidFrom(pidFile)
		if how == "cancel" {
			if !alive(pid) {
				t.Fatal("the grandchild does not run")
			}
			w.cancel(how)
		}
		info := w.await(how)
		if alive(pid) {
			t.Errorf("%s: the grandchild (pid %d) still runs although the task %s", how, pid, info.GetState())
		}
		want := map[string]string{"cancel": "cancelled", "limit": "failed", "exit": "succeeded"}[how]
		if info.GetState() != want {
			t.Errorf("%s: %s, want %s: %s", how, info.GetState(), want, info.GetOutcome().GetMessage())
		}
	}
	if left := w.tasks(); len(left) != 0 {
		t.Errorf("processes of tasks are left: %v", left)
	}
}

// TestForceHarmsOnlyItsTask: tasks that start after one that had to be killed by
// force run as if nothing had happened. (With cgroups this was not so once.)
func TestForceHarmsOnlyItsTask(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.mustStart()
	for i := range 4 {
		id := fmt.Sprintf("deaf-%d", i)
		pidFile := filepath.Join(w.workspace, id)
		w.submit(submission(id, `trap "" TERM; echo $$ > `+pidFile+`; while :; do sleep 1; done`, func(r *pb.SubmitTaskRequest) { r.Spec.GraceMs = 100 }))
		w.pidFrom(pidFile)
		w.cancel(id)
		if info := w.await(id); info.GetState() != "cancelled" {
			t.Errorf("%s %s: %s", id, info.GetState(), info.GetOutcome().GetMessage())
		}
		next := fmt.Sprintf("next-%d", i)
		w.submit(submission(next, "sleep 0.01"))
		if info := w.await(next); info.GetState() != "succeeded" {
			t.Errorf("%s %s: %s", next, info.GetState(), info.GetOutcome().GetMessage())
		}
	}
}

func TestOutputAndResult(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.mustStart()
	got := w.dspy("submit", "--id", "a", "--wait", "--", "sh", "-c",
		`echo to stdout; echo to stderr >&2; printf 'no newline \377'; echo '{"loss": 0.5, "text": "ü"}' > "$DSPY_RESULT_FILE"`)
	if got.code != exitDone {
		t.Fatalf("exit code %d: %s", got.code, got.err)
	}
	if out := w.dspyOK("logs", "a"); out != "to stdout\nto stderr\nno newline \xff" {
		t.Errorf("output %q", out)
	}
	var result struct {
		Loss float64
		Text string
	}
	if err := json.Unmarshal([]byte(w.dspyOK("result", "a")), &result); err != nil || result.Loss != 0.5 || result.Text != "ü" {
		t.Errorf("result %+v, %v", result, err)
	}
	// The same environment in every attempt, and what is no JSON object is said to be none.
	bad := w.dspy("submit", "--id", "bad", "--wait", "--", "sh", "-c", `echo 'not json' > "$DSPY_RESULT_FILE"`)
	if bad.code != exitFailed {
		t.Errorf("exit code %d: %s%s", bad.code, bad.out, bad.err)
	}
	if msg := w.task("bad").GetOutcome().GetMessage(); !strings.Contains(msg, "result") || !strings.Contains(msg, "JSON") {
		t.Errorf("the message %q does not say that its result is no JSON object", msg)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.mustStart()
	for _, c := range []struct {
		id, line string
		flags    []string
		code     int
		words    string
	}{
		{"good", "exit 0", nil, exitDone, ""},
		{"three", "exit 3", nil, 3, "exit code 3"},
		{"killed", "kill -9 $$", nil, 128 + 9, "signal 9"},
		{"segv", "kill -11 $$", nil, 128 + 11, "signal 11"},
		{"slow", "exec sleep 60", []string{"--timeout", "0.2s"}, exitTimeout, "time limit of 200ms"},
	} {
		args := append([]string{"submit", "--id", c.id, "--wait"}, c.flags...)
		got := w.dspy(append(args, "--", "sh", "-c", c.line)...)
		if got.code != c.code || !strings.Contains(got.out+got.err, c.words) {
			t.Errorf("%s: exit code %d, want %d with %q:\n%s%s", c.id, got.code, c.code, c.words, got.out, got.err)
		}
		if again := w.dspy("wait", c.id); again.code != c.code {
			t.Errorf("%s: wait ends with %d, want %d", c.id, again.code, c.code)
		}
	}
}

// TestEnvironmentOfTask: what a program finds around it.
func TestEnvironmentOfTask(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.mustStart()
	show := `env | grep -E '^(DSPY_|PATH=|GREETING=)' | sort; cat "$DSPY_PAYLOAD_FILE"; pwd`
	w.dspyOK("submit", "--id", "group/a", "--wait", "--env", "GREETING=hello  you", "--payload", `{"lr": 0.1}`, "--workdir", "/usr", "--", "sh", "-c", show)
	out := w.dspyOK("logs", "group/a")
	for _, line := range []string{
		"DSPY_TASK_ID=group/a\n", "DSPY_TASK_CLASS=cpu_short\n", "DSPY_TASK_ATTEMPT=1\n", "GREETING=hello  you\n",
		"PATH=" + os.Getenv("PATH") + "\n", `{"lr":0.1}`, "/usr\n",
		"DSPY_RESULT_FILE=" + w.queueDir, "DSPY_PAYLOAD_FILE=" + w.queueDir,
	} {
		if !strings.Contains(out, line) {
			t.Errorf("the output lacks %q:\n%s", line, out)
		}
	}
	// A client of the wire that sends no environment gets the daemon's basics.
	w.submit(submission("bare", `echo "path: $PATH; home: $HOME"; ls / > /dev/null`, func(r *pb.SubmitTaskRequest) { r.Spec.Env = nil }))
	if info := w.await("bare"); info.GetState() != "succeeded" {
		t.Errorf("%s: %s", info.GetState(), info.GetOutcome().GetMessage())
	}
	if out := w.dspyOK("logs", "bare"); !strings.Contains(out, "path: "+os.Getenv("PATH")+"; home: "+filepath.Dir(w.workspace)) {
		t.Errorf("output %q", out)
	}
}

// TestRetriesSeeTheirAttempt: each attempt knows its number and has its own log.
func TestRetriesSeeTheirAttempt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.mustStart()
	w.submit(submission("a", `echo "attempt $DSPY_TASK_ATTEMPT"; exit $((3 - DSPY_TASK_ATTEMPT))`, func(r *pb.SubmitTaskRequest) {
		r.Spec.Retries, r.Spec.BackoffMs = 5, 10
	}))
	if info := w.await("a"); info.GetState() != "succeeded" || info.GetAttempt() != 3 {
		t.Fatalf("%s, attempt %d", info.GetState(), info.GetAttempt())
	}
	for n := 1; n <= 3; n++ {
		if got := w.dspyOK("logs", "--attempt", strconv.Itoa(n), "a"); got != fmt.Sprintf("attempt %d\n", n) {
			t.Errorf("log of attempt %d: %q", n, got)
		}
	}
}

// TestDaemonLeavesTasksAlone: SIGTERM ends the daemon and nothing else; the next
// one finds the task, and its end.
func TestDaemonLeavesTasksAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.mustStart()
	pidFile, gate := filepath.Join(w.workspace, "pid"), filepath.Join(w.workspace, "gate")
	line := `echo $$ > ` + pidFile + `; while [ ! -e ` + gate + ` ]; do sleep 0.02; done; echo '{"n": 1}' > "$DSPY_RESULT_FILE"`
	w.submit(submission("a", line), submission("b", "true", func(r *pb.SubmitTaskRequest) {
		r.Spec.After = []*pb.Dependency{{Id: "a"}}
	}))
	pid := w.pidFrom(pidFile)
	w.endDaemon()
	if !alive(pid) {
		t.Fatal("the task ended with the daemon")
	}
	w.mustStart()
	if info := w.task("a"); info.GetState() != "running" || info.GetAttempt() != 1 {
		t.Errorf("a is %s, attempt %d", info.GetState(), info.GetAttempt())
	}
	w.endDaemon()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.eventually(time.Minute, "the end of the program", func() bool { return !alive(pid) })
	w.mustStart()
	if info := w.await("a"); info.GetState() != "succeeded" {
		t.Errorf("a %s: %s", info.GetState(), info.GetOutcome().GetMessage())
	}
	if info := w.await("b"); info.GetState() != "succeeded" {
		t.Errorf("b %s: %s", info.GetState(), info.GetOutcome().GetMessage())
	}
	if got := w.dspyOK("result", "a"); !strings.Contains(got, `"n"`) {
		t.Errorf("result %q", got)
	}
}

// TestFollowAcrossRestart: a log that is being followed is complete, whatever
// happens to the daemon meanwhile.
func TestFollowAcrossRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.mustStart()
	gates := filepath.Join(w.workspace, "gate")
	await := func(n int) string { return fmt.Sprintf(`while [ ! -e %s%d ]; do sleep 0.02; done; `, gates, n) }
	open := func(n int) {
		if err := os.WriteFile(fmt.Sprint(gates, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.submit(submission("a", `echo one; `+await(1)+`echo two; `+await(2)+`echo three`))
	ctx, cancel := context.WithTimeout(t.Context(), cliPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(w.bin, "dspy-agent"), "logs", "--follow", "a")
	cmd.Env, cmd.Dir = w.env, w.workspace
	path := filepath.Join(w.workspace, "followed")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout = out // what it says of the daemon's absence goes to standard error
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sees := func(want string) {
		t.Helper()
		w.eventually(20*time.Second, fmt.Sprintf("%q, and nothing else, in the followed log", want), func() bool {
			b, err := os.ReadFile(path)
			return err == nil && string(b) == want
		})
	}
	sees("one\n")
	w.endDaemon()
	open(1)
	w.mustStart()
	sees("one\ntwo\n")
	w.killDaemon()
	w.mustStart()
	open(2)
	sees("one\ntwo\nthree\n")
	if err := cmd.Wait(); err != nil {
		t.Errorf("logs --follow: %v", err)
	}
}

// TestStoppedProcess: a program that SIGSTOP holds is held to its time limit all
// the same, and can be cancelled.
func TestStoppedProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.mustStart()
	stop := func(id string) *pb.SubmitTaskRequest {
		return submission(id, `echo $$ > `+filepath.Join(w.workspace, id)+`; kill -STOP $$; exec sleep 60`, func(r *pb.SubmitTaskRequest) {
			r.Spec.GraceMs = 300
			if id == "limit" {
				r.Spec.TimeoutMs = 500
			}
		})
	}
	w.submit(stop("limit"), stop("cancel"))
	pids := map[string]int{"limit": w.pidFrom(filepath.Join(w.workspace, "limit")), "cancel": w.pidFrom(filepath.Join(w.workspace, "cancel"))}
	if info := w.await("limit"); info.GetOutcome().GetFailureClass() != "timeout" {
		t.Errorf("%s: %v", info.GetState(), info.GetOutcome())
	}
	w.cancel("cancel")
	if info := w.await("cancel"); info.GetState() != "cancelled" {
		t.Errorf("%s: %v", info.GetState(), info.GetOutcome())
	}
	for id, pid := range pids {
		if alive(pid) {
			t.Errorf("%s: pid %d still runs", id, pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// TestTaskThatIsKilledFromOutside: a person kills the process of a task.
func TestTaskThatIsKilledFromOutside(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.mustStart()
	pidFile := filepath.Join(w.workspace, "pid")
	w.submit(submission("a", `echo $$ > `+pidFile+`; exec sleep 60`))
	if err := syscall.Kill(w.pidFrom(pidFile), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	info := w.await("a")
	if o := info.GetOutcome(); info.GetState() != "failed" || o.GetSignal() != 9 || !strings.Contains(o.GetMessage(), "signal 9") {
		t.Errorf("%s: %v", info.GetState(), o)
	}
}
