package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/doctor"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// expect runs a command line and compares its exit code, and what its output
// contains; "" stands for no output at all.
func expect(t *testing.T, env Env, code int, stdout, stderr string, args ...string) string {
	t.Helper()
	gotCode, gotOut, gotErr := dspyAgent(t, env, args...)
	contains := func(got, want string) bool {
		return want == "" && got == "" || want != "" && strings.Contains(got, want)
	}
	if gotCode != code || !contains(gotOut, stdout) || !contains(gotErr, stderr) {
		t.Errorf("%s\n got  exit %d, stdout %q, stderr %q\n want exit %d, stdout %q, stderr %q",
			strings.Join(args, " "), gotCode, gotOut, gotErr, code, stdout, stderr)
	}
	return gotOut
}

// TestNothingRuns: without a daemon and without a queue nothing can be done, and no queue
// is made.
func TestNothingRuns(t *testing.T) {
	env := testEnv(t)
	for _, args := range []string{"ps", "show x", "status", "submit -- true", "wait x", "cancel x", "logs x", "why x", "result x", "retry x", "pause cpu_long", "queue stats"} {
		expect(t, env, exitNotFound, "", "there is no queue in workspace "+env.Cwd+", and no daemon of yours runs on this host", strings.Fields(args)...)
	}
	expect(t, env, exitNotFound, `"running":false`, "there is no queue", "status", "--json")
	expect(t, env, exitDone, "no daemon runs", "", "stop")
	expect(t, env, exitDone, "", "", "__complete", "--", "show", "")
	if made, err := os.ReadDir(env.Cwd); err != nil || len(made) != 0 {
		t.Errorf("the folder has %v, %v", made, err)
	}
}

func TestUsage(t *testing.T) {
	env := testEnv(t)
	for args, want := range map[string]string{
		"submit":                           "say what to run",
		"submit --workdir /nowhere -- x":   "no such file or directory",
		"submit --timeout soon -- x":       "not a duration",
		"submit --after a/../b -- x":       "--after",
		"submit --env UNSET -- x":          "not set here",
		"submit --env 1A=x -- x":           `"1A" is no name of a variable`,
		"submit --env A-B=x -- x":          `"A-B" is no name of a variable`,
		"submit --env =x -- x":             "has no name",
		"submit ls -la":                    "dspy-agent submit [flags] -- ls -la",
		"cancel a --state pending":         "not both",
		"cancel --class cpu_shrt":          "did you mean cpu_short?",
		"retry --state failde":             "did you mean failed?",
		"wait --from-file none":            "cannot read",
		"cancel":                           "--state, --class or --from-file",
		"submit --payload [1] -- x":        "JSON object",
		"submit --payload @none.json -- x": "cannot read",
		"submit --from-file none":          "cannot read",
		"submit --from-file x --id c":      "--id cannot be given together with --from-file: each line needs an id of its own",
		"submit --from-file x --cpus no":   "--cpus no",
		"submit --from-file x -- true":     "a command cannot be given",
		"submit --from-file x --wait":      "dspy-agent submit --from-file x | dspy-agent wait --from-file -",
		"submit -f --from-file x":          "--follow waits for one task",
		"submit --id= -- x":                "--id is empty",
		"submit --id a^b -- x":             "--id",
		"submit --retry 2 -- x":            "did you mean --retries?",
		"submit --retries -1 -- x":         "between 0 and 1000",
		"submit --priority 9999999 -- x":   "between -1000000 and 1000000",
		"submit --class none -- x":         "none",
		"submit --from-file /dev/null":     "the file has no tasks",
		"top":                              "did you mean ps --watch?",
		"restart":                          "did you mean stop and then start?",
		"rm":                               "did you mean cancel?",
		"jobs":                             "did you mean ps?",
		"submit --tag x -- y":              "there is no flag --tag of submit; dspy-agent help submit lists",
		"submit --time 5 -- y":             "did you mean --timeout?",
		"submit -n 1 -- y":                 "there is no flag -n of submit; dspy-agent help submit lists",
		"ps -nx":                           `--limit: "x" is not a whole number`,
		"ps -fn1":                          "there is no flag -fn1",
		"show":                             "the id of one task",
		"show a b":                         "the id of one task",
		"ps x":                             "ps takes no ids",
		"show exp/":                        "show takes the id of one task; dspy-agent ps exp/ lists",
		"logs exp/":                        "dspy-agent ps exp/ lists",
		"access tls bad^host":              `"bad^host" is neither the name nor the address of a host`,
		"submit --image a --workdir b":     "--workdir b: with --image it is a folder of the container, from / on, such as /b",
		"ps --state runnin":                "did you mean running?",
		"ps --class cpu_shrt":              "did you mean cpu_short?",
		"ps --limit -1":                    "--limit",
		"completion tcsh":                  "bash, fish, zsh",
		"wait":                             "one or more tasks",
		"start --start-timeout x":          "--start-timeout",
		"help shwo":                        "did you mean show?",
		"logs a b":                         "one task",
	} {
		expect(t, env, exitUsage, "", want, strings.Fields(args)...)
	}
}

func TestRefusesWhatComesLater(t *testing.T) {
	env := testEnv(t)
	for _, f := range laterFlags {
		expect(t, env, exitRefused, "", f.why, "submit", "--"+f.name, "1", "--", "x")
	}
	expect(t, env, exitUsage, "", "did you mean cpu_long?", "submit", "--class", "cpu_log", "--", "x")
}

func TestWorkspaceThatIsNotThere(t *testing.T) {
	env := testEnv(t)
	expect(t, env, exitNoDaemon, "", "/nowhere: that folder does not exist\n", "ps", "--workspace", "/nowhere")
}

func TestEventDataHasTypes(t *testing.T) {
	got, err := json.Marshal(eventData(map[string]string{
		"attempt": "2", "exit_code": "3", "not_before": "2026-01-02T03:04:05.678901234Z", "class": "7",
	}))
	if want := `{"attempt":2,"class":"7","exit_code":3,"not_before":"2026-01-02T03:04:05.678Z"}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
	if got := eventData(map[string]string{"exit_code": "-1"}); len(got) != 0 {
		t.Errorf("without an exit code: %v", got)
	}
}

func TestWaitEndsWithTheTasksCode(t *testing.T) {
	f, env := startFake(t)
	expect(t, env, 0, "ok\tsucceeded\t0", "submitted ok", "submit", "--id", "ok", "--wait", "--", "true")
	expect(t, env, 7, "seven\tfailed\t7\tended with exit code 7", "submitted seven", "submit", "--id", "seven", "--wait", "--", "exit", "7")
	expect(t, env, 0, "kill\n", "", "submit", "--id", "kill", "--", "sleep")
	f.end("kill", task.Failed, &pb.Outcome{ExitCode: -1, Signal: 9, Message: "killed by signal 9"})
	expect(t, env, 137, "kill\tfailed\t137", "", "wait", "kill")
	expect(t, env, 7, `"exit_code":7`, "", "wait", "ok", "seven", "kill", "--json")
	expect(t, env, exitNotFound, "", `no task "none"`, "wait", "ok", "none")
	expect(t, env, 7, "out of seven", "seven failed", "submit", "--id", "seven", "--follow", "--", "exit", "7")
	// With --json, stdout is the object alone.
	if out := expect(t, env, 7, `"id":"seven"`, "out of seven", "submit", "--id", "seven", "--follow", "--json", "--", "exit", "7"); !json.Valid([]byte(out)) {
		t.Errorf("not JSON: %q", out)
	}
}

// TestInterruptLeavesTheTaskAlone: Ctrl-C ends the wait, and says how to end
// the task.
func TestInterruptLeavesTheTaskAlone(t *testing.T) {
	for sig, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		f, env := startFake(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		var out, errs strings.Builder
		env.Args, env.Stdout, env.Stderr = []string{Program, "submit", "--id", "long", "--wait", "--", "sleep"}, &out, &errs
		done := make(chan int, 1)
		go func() { done <- Main(ctx, env) }()
		<-f.waits
		cancel(InterruptedError{Signal: sig})
		if code := <-done; code != want {
			t.Errorf("%v: exit %d, want %d", sig, code, want)
		}
		if !strings.Contains(errs.String(), "long goes on. To end it: dspy-agent cancel long") || strings.Contains(errs.String(), "\n\n") {
			t.Errorf("stderr is %q", errs.String())
		}
		if info, _, _ := f.get("long"); info.GetState() != "running" {
			t.Errorf("the task is %s", info.GetState())
		}
	}
}

func TestPs(t *testing.T) {
	f, env := startFake(t)
	if out := expect(t, env, exitDone, "[]", "", "ps", "--json"); out != "[]\n" {
		t.Errorf("an empty list is %q", out)
	}
	for i := range 60 {
		expect(t, env, exitDone, "t", "", "submit", "--id", fmt.Sprintf("t%d", i), "--class", []string{"cpu_short", "cpu_long"}[i%2], "--", "true")
	}
	expect(t, env, exitDone, "x", "", "submit", "--id", "x", "--", "sleep")
	lines := strings.Split(strings.TrimSpace(expect(t, env, exitDone, "ID\tNAME\tCLASS\tSTATE", "", "ps")), "\n")
	if len(lines) != 1+61 || !strings.HasPrefix(lines[1], "x\tsleep\tcpu_short\trunning\t1\t") {
		t.Errorf("%d lines, beginning %q", len(lines), lines[:2])
	}
	for args, want := range map[string]int{
		"ps --json": 61, "ps --json --limit 0": 61, "ps --json -n 3": 3, "ps --json -n2": 2, "ps --json --state Running": 1, "ps --json --class cpu_long --limit 0": 30,
		"ps --json --state running,failed": 1, "ps --json --state completed --limit 0 --state running": 61,
	} {
		_, out, _ := dspyAgent(t, env, strings.Fields(args)...)
		var got []map[string]any
		if err := json.Unmarshal([]byte(out), &got); err != nil || len(got) != want {
			t.Errorf("%s: %d tasks, %v; want %d", args, len(got), err, want)
		}
	}
	_ = f
}

func TestShowResultLogs(t *testing.T) {
	f, env := startFake(t)
	expect(t, env, exitDone, "a", "", "submit", "--id", "a", "--", "true")
	expect(t, env, exitDone, "command    true", "", "show", "a")
	expect(t, env, exitDone, `"argv":["true"]`, "", "show", "a", "--json")
	expect(t, env, exitFailed, "", "returned no result", "result", "a")
	f.find("a").ResultJson = []byte(`{ "loss": 0.5 }`)
	expect(t, env, exitDone, "{\"loss\":0.5}\n", "", "result", "a")
	expect(t, env, exitDone, "out of a\n\xff\x00", "", "logs", "a")
	expect(t, env, exitDone, "b", "", "submit", "--id", "b", "--", "sleep")
	expect(t, env, exitRefused, "", "has no result yet", "result", "b")
	expect(t, env, exitNotFound, "", "no task", "show", "c")
	f.find("a").Spec.TimeoutMs, f.find("a").Spec.ClassTimeout = 60_000, true
	expect(t, env, exitDone, "timeout    1m, which its class enforces\n", "", "show", "a")
	expect(t, env, exitDone, `"timeout_s":60,"class_timeout":true`, "", "show", "a", "--json")
}

// TestShowOfAContainer: it says what the program gets, and not what the shell had.
func TestShowOfAContainer(t *testing.T) {
	_, env := startFake(t)
	expect(t, env, exitDone, "c", "", "submit", "--id", "c", "--image", "alpine:3", "--mount", "/data:/in:ro", "--mount", "/out", "--workdir", "/w", "--env", "A=1", "--", "sleep")
	out := expect(t, env, exitDone, "c", "", "show", "c")
	for _, line := range []string{
		"image      alpine:3", "command    sleep", "folder     /w", "mount      /data as /in, read only", "mount      /out as /out",
		"env        1 variable of --env, which --json lists", "backend    process",
	} {
		if !strings.Contains(out, "\n"+line+"\n") {
			t.Errorf("it does not say %q:\n%s", line, out)
		}
	}
	expect(t, env, exitDone, `"workdir":"/w","image":"alpine:3","mounts":[{"host_path":"/data","mount_path":"/in","read_only":true},{"host_path":"/out","mount_path":"/out","read_only":false}],"env":["A=1"]`, "", "show", "c", "--json")
	expect(t, env, exitDone, "d", "", "submit", "--id", "d", "--image", "alpine:3")
	expect(t, env, exitDone, "command    the image's own\nfolder     the image's own\n", "", "show", "d")
	if out := expect(t, env, exitDone, `"image":"alpine:3"`, "", "show", "d", "--json"); strings.Contains(out, "workdir") {
		t.Errorf("it has a folder: %s", out)
	}
}

// TestMountInAClassWithAnImage: the image of a class is enough for what only containers have.
func TestMountInAClassWithAnImage(t *testing.T) {
	f, env := startFake(t)
	settings := filepath.Join(t.TempDir(), "c.toml")
	write(t, settings, "[classes.boxed]\nimage = \"alpine:3\"\n")
	expect(t, env, exitUsage, "", "--mount needs --image, or a class with an image", "--config", settings, "submit", "--mount", "/data:/in", "--", "true")
	expect(t, env, exitUsage, "", "need --image, or a class with an image", "--config", settings, "submit", "--network", "none", "--", "true")
	expect(t, env, exitDone, "a", "", "--config", settings, "submit", "--id", "a", "--class", "boxed", "--mount", "/data:/in", "--network", "none", "--", "true")
	if s := f.find("a").GetSpec(); len(s.GetMounts()) != 1 || s.GetNetwork() != "none" {
		t.Errorf("%v", s)
	}
	lines := filepath.Join(t.TempDir(), "lines")
	write(t, lines, `{"id": "b", "argv": ["true"], "class": "boxed", "mounts": ["/data"]}`+"\n")
	expect(t, env, exitDone, "b", "1 accepted", "--config", settings, "submit", "--from-file", lines)
}

func TestCancelGoesOn(t *testing.T) {
	_, env := startFake(t)
	expect(t, env, exitDone, "a", "", "submit", "--id", "a", "--", "sleep")
	expect(t, env, exitDone, "b", "", "submit", "--id", "b", "--", "true")
	expect(t, env, exitNotFound, "a cancelled\nb has succeeded already\n", `there is no task "none" (looked in workspace `, "cancel", "none", "a", "b", "--reason", "typo")
}

// TestEmptyIDs: what a shell makes of a variable that is not set.
func TestEmptyIDs(t *testing.T) {
	env := testEnv(t)
	for _, cmd := range []string{"show", "logs", "wait", "cancel"} {
		expect(t, env, exitUsage, "", cmd, cmd, "")
	}
}

// TestPartsOfIDs: enough of an id, from its beginning or its end, is the id to
// commands that only look.
func TestPartsOfIDs(t *testing.T) {
	_, env := startFake(t)
	for _, id := range []string{"01M8Z3QKV7", "01M8Z3GB6M"} {
		expect(t, env, exitDone, id, "", "submit", "--id", id, "--", "true")
	}
	expect(t, env, exitDone, "command    true", "01M8Z3Q is taken for 01M8Z3QKV7\n", "show", "01M8Z3Q")
	expect(t, env, exitDone, "out of 01M8Z3GB6M", "Z3GB6M is taken for 01M8Z3GB6M\n", "logs", "Z3GB6M")
	expect(t, env, exitDone, "01M8Z3GB6M\tsucceeded", "is taken for", "wait", "Z3GB6M")
	expect(t, env, exitNotFound, "", "01M8Z3 may be 2 tasks: 01M8Z3GB6M 01M8Z3QKV7; give more of the id\n", "show", "01M8Z3")
	expect(t, env, exitNotFound, "", `no task "GB6M"; the beginning or the end of an id is taken for the whole from 6 characters on (looked in`, "show", "GB6M")
	expect(t, env, exitNotFound, "", "no task", "cancel", "01M8Z3Q")
	for i := range 7 {
		expect(t, env, exitDone, "lr", "", "submit", "--id", fmt.Sprintf("exp/lr-%d", i), "--", "true")
	}
	expect(t, env, exitNotFound, "", "exp/lr may be any of more than 5 tasks, such as exp/lr-6 exp/lr-5 exp/lr-4 exp/lr-3 exp/lr-2; give more", "show", "exp/lr")
}

func TestStatusNamesEveryState(t *testing.T) {
	_, env := startFake(t)
	expect(t, env, exitDone, "a", "", "submit", "--id", "a", "--", "true")
	expect(t, env, exitDone, `"cpu_short":{"assigned":0,"cancelled":0,"failed":0,"lost":0,"pending":0,"running":0,"starting":0,"stopping":0,"succeeded":1}`, "", "status", "--json")
}

func TestDoctorOnAPartThatIsDown(t *testing.T) {
	f, env := startFake(t)
	f.services = map[string]string{"process": "down: no supervisor"}
	expect(t, env, exitFailed, "problem\tparts\tprocess is down: no supervisor\tdspy-agent stop, then dspy-agent start", "problem", "doctor")
}

// TestDoctorOnSilence: a process takes the connection and says nothing.
func TestDoctorOnSilence(t *testing.T) {
	f, env := startFake(t)
	f.stop()
	lis, err := net.Listen("unix", f.path)
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	begin := time.Now()
	expect(t, env, exitFailed, "problem\tdaemon\tthe daemon cannot be asked: no answer within 3s", "problem", "doctor")
	if took := time.Since(begin); took < doctor.Patience {
		t.Errorf("it did not wait: %s", took)
	}
}

// failing is an output that cannot be written to.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestOutputThatFails(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code int
		said string
	}{
		{syscall.EPIPE, exitDone, ""},
		{syscall.ENOSPC, exitFailed, "no space left"},
	} {
		env := testEnv(t)
		var errs strings.Builder
		env.Args, env.Stdout, env.Stderr = []string{Program, "version"}, failing{tc.err}, &errs
		if code := Main(t.Context(), env); code != tc.code || !strings.Contains(errs.String(), tc.said) || tc.said == "" && errs.Len() > 0 {
			t.Errorf("%v: exit %d, stderr %q", tc.err, code, errs.String())
		}
	}
}

func TestCompletion(t *testing.T) {
	_, env := startFake(t)
	expect(t, env, exitDone, "run/1", "", "submit", "--id", "run/1", "--", "sleep")
	expect(t, env, exitDone, "done", "", "submit", "--id", "done", "--", "true")
	for words, want := range map[string]string{
		"st":                         "start\nstop\nstatus\n",
		"show ":                      "done\nrun/1\n",
		"cancel ":                    "run/1\n",
		"ps --state runn":            "running\n",
		"ps --state running,fai":     "running,failed\n",
		"ps --state=fai":             "--state=failed\n",
		"submit --class cpu":         "cpu_short\ncpu_long\n",
		"submit --class=cpu_s":       "--class=cpu_short\n",
		"logs --fo":                  "--follow\n",
		"--workspace /nowhere show ": "",
		"submit -- show ":            "",
		"submit --after d":           "done\n",
		"completion z":               "zsh\n",
		"gpus ":                      "drain\nresume\n",
		"access t":                   "tls\ntoken\n",
		"help queue st":              "stats\n",
		"submit --on-lost ":          "fail\nretry\n",
		"nonsense ":                  "start\nstop\ndrain\nworker\nstatus\nqueue\npause\nresume\ngpus\nslurm\nimages\nservices\ndoctor\nconfig\naccess\nversion\nsubmit\nps\nshow\nwhy\nresult\nlogs\nwait\ncancel\nretry\ncompletion\nhelp\n",
	} {
		_, out, errs := dspyAgent(t, env, append([]string{"__complete", "--"}, strings.Split(words, " ")...)...)
		if out != want || errs != "" {
			t.Errorf("%q: got %q (stderr %q), want %q", words, out, errs, want)
		}
	}
}

// TestCompletionOfOldTasks: the beginning of an id is completed however many newer tasks
// there are.
func TestCompletionOfOldTasks(t *testing.T) {
	f, env := startFake(t)
	for i := range 2 * completeLimit {
		f.submit(&pb.SubmitTaskRequest{Id: fmt.Sprintf("%s-%d", []string{"old", "new"}[i/completeLimit], i), Spec: &pb.TaskSpec{}})
	}
	expect(t, env, exitDone, "old-7\n", "", "__complete", "--", "show", "old-7")
}

// TestLogsTellTheAttempt: of a task that was tried again it is said which attempt's output
// it is.
func TestLogsTellTheAttempt(t *testing.T) {
	f, env := startFake(t)
	expect(t, env, exitDone, "a", "", "submit", "--id", "a", "--", "true")
	expect(t, env, exitDone, "out of a", "", "logs", "a")
	f.find("a").Attempt = 3
	expect(t, env, exitDone, "out of a", "note: this is attempt 3 of 3; --attempt N shows another\n", "logs", "a")
	expect(t, env, exitDone, "out of a", "", "logs", "a", "--attempt", "2")
	_, _, errs := dspyAgent(t, env, "logs", "a", "--attempt", "9")
	if want := "dspy-agent: task a has no attempt 9: there were 3 so far\n"; errs != want {
		t.Errorf("got %q, want %q", errs, want)
	}
}

// TestOneWord: a whole command in quotes is accepted, with a hint.
func TestOneWord(t *testing.T) {
	_, env := startFake(t)
	expect(t, env, exitDone, "\n", "submit -- echo hello, a line of shell: dspy-agent submit -- sh -c 'echo hello'\n", "submit", "--", "echo hello")
	if err := os.WriteFile(env.Cwd+"/my tool", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, env, exitDone, "\n", "", "submit", "--", "my tool")
	expect(t, env, exitDone, "\n", "", "submit", "--", "echo", "a b")
}
